"""What changes when units are exchanged or lost: patches, relevance, lesions, mediation."""
