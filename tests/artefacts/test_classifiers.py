import shutil

import digit_models
import numpy as np
import pytest

from keras_mixer.artefacts import open_classifier


@pytest.mark.parametrize("path", ["run", "run/model.keras", "digits", "digits/1", "digits/model.tflite"])
def test_every_form_of_a_model_has_the_same_card_and_scores(folder, model, path):
    predictor, card = open_classifier(folder / path)
    assert card == digit_models.card(folder)
    images = digit_models.random_images(2)
    np.testing.assert_allclose(predictor.scores(images), model.predict_on_batch(images), atol=1e-5)


def test_a_file_without_its_card_is_an_error(folder, tmp_path):
    shutil.copy(folder / "digits/model.tflite", tmp_path)
    with pytest.raises(ValueError, match=r"has no card: expected .*model\.json"):
        open_classifier(tmp_path / "model.tflite")
