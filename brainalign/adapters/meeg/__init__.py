"""MEG, EEG and intracranial EEG, through MNE."""
