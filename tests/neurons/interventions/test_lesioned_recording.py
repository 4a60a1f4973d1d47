"""Virtual lesions: recorded neuroids taken out of what a mapping reads."""

import numpy as np

import brainalign as ba


def test_a_virtual_lesion_of_the_informative_region_costs_the_decoder_its_accuracy():
    rng = np.random.default_rng(0)
    label = np.tile(["face", "house", "word"], 40)
    values = rng.normal(size=(120, 20))
    values[:, :10] += 3 * rng.normal(size=(3, 10))[np.unique(label, return_inverse=True)[1]]
    x = ba.responses(values, stimulus_id=range(120), neuroid_id=range(20), modality="fmri", system="sub-01", condition=label,
                     region=np.repeat(["V1", "V2"], 10))  # fmt: skip
    for method in ("lda", "logistic", "svm"):
        decoder = ba.Classifier(method, random_state=0 if method == "svm" else None).fit(x[::2], label[::2])
        lost = ba.lesion(decoder, x[1::2], units="V1", mode="mean", target="condition", n_draws=99, random_state=0)
        kept = ba.lesion(decoder, x[1::2], units="V2", mode="mean", target="condition", n_draws=99, random_state=0)
        assert float(lost.effect) > 0.4 > 0.1 > float(kept.effect)
        assert float(lost.p_value) < 0.05 < float(kept.p_value)
        assert lost.neuroid_id.values.tolist() == ["face", "house", "word"]
