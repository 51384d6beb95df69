import pytest
import stand_in

from keras_mixer import serving


def test_a_model_is_named_after_its_folder(tmp_path, monkeypatch):
    assert serving.ModelConfig(tmp_path / "digits").name == "digits"
    monkeypatch.chdir(tmp_path)
    assert serving.ModelConfig(".").name == tmp_path.name
    assert serving.ModelConfig("digits", name="other").name == "other"


@pytest.mark.parametrize(
    "settings",
    [
        *({"name": "a/b"}, {"name": "a:b"}, {"versions": "newest"}, {"versions": ("1",)}, {"versions": 0}),
        *({"versions": True}, {"versions": 1.0}, {"versions": (-1,)}, {"versions": (True,)}),
        {"labels": {"not-a-label": 1}},
    ],
)
def test_a_model_that_no_address_could_name(settings):
    with pytest.raises(ValueError, match="got"):
        serving.ModelConfig("digits", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_batch_size": 0},
        {"batch_timeout_micros": -1},
        {"num_batch_threads": 0},
        {"allowed_batch_sizes": (8, 4, 32)},
        {"allowed_batch_sizes": (1, 16)},
        *({"max_batch_size": "32"}, {"max_batch_size": 32.0}, {"num_batch_threads": True}),
    ],
)
def test_batching_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="got"):
        serving.Batching(**settings)


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="max_body_bytes must be greater than 0, but got 0"):
        serving.Limits(max_body_bytes=0)
    for settings in ({"max_body_bytes": 1.5}, {"max_image_pixels": "9"}, {"read_timeout": "20"}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be .*, but got"):
            serving.Limits(**settings)


@pytest.mark.parametrize("ports", [{"port": 70000}, {"port": "8500"}, {"rest_port": -1}, {"rest_port": 1.0}], ids=repr)
def test_ports_that_are_none(tmp_path, ports):
    with pytest.raises(ValueError, match=f"`{next(iter(ports))}` must be an integer from 0 to 65535"):
        serving.Server(tmp_path, **ports)


def test_batching_parameters_of_tf_serving(tmp_path):
    file = tmp_path / "batching_parameters.txt"
    file.write_text(
        "max_batch_size { value: 16 }  # don't\nbatch_timeout_micros { value: 500 }\n"
        "max_enqueued_batches { value: 9 }\n"
        'thread_pool_name { value: "batches #1 } " }\nnum_batch_threads { value: 2 }\nallowed_batch_sizes: 4\n'
        "pad_variable_length_inputs: true\nthread_pool_name: { value: 'one' }\nallowed_batch_sizes: 16\n"
        "enable_large_batch_splitting { value: True }\n"
    )
    assert serving.read_batching_parameters(file) == serving.Batching(
        max_batch_size=16,
        batch_timeout_micros=500,
        max_enqueued_batches=9,
        num_batch_threads=2,
        allowed_batch_sizes=(4, 16),
    )


def test_parts_of_large_requests_of_tf_serving(tmp_path):
    """TF Serving then takes requests up to `max_batch_size`; this server takes any."""
    file = tmp_path / "batching_parameters.txt"
    file.write_text(
        "max_batch_size { value: 64 } enable_large_batch_splitting { value: true }\n"
        "max_execution_batch_size { value: 16 } allowed_batch_sizes: 4 allowed_batch_sizes: 16"
    )
    assert serving.read_batching_parameters(file) == serving.Batching(max_batch_size=16, allowed_batch_sizes=(4, 16))


@pytest.mark.parametrize(
    "text",
    [
        *("max_batch_size: many", "unknown { value: 1 }", "max_batch_size { value: 0 }"),
        *("max_batch_size: true", 'max_batch_size { value: "16" }', "max_batch_size { value: 16"),
    ],
)
def test_batching_parameters_that_are_none(tmp_path, text):
    file = tmp_path / "batching_parameters.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"max_batch_size|unknown"):
        serving.read_batching_parameters(file)


def test_a_model_configuration_of_tf_serving(bundle, tmp_path, grpc_stubs):
    (model,) = serving.read_model_config(bundle / "models.config")
    assert (model.name, model.versions, model.labels) == (stand_in.NAME, (1, 2), stand_in.LABELS)
    # A container's path is found beside the file.
    file = tmp_path / "models.config"
    file.write_text('model_config_list { config { name: "digits" base_path: "/models/digits" } }')
    (tmp_path / "models" / "digits").mkdir(parents=True)
    (model,) = serving.read_model_config(file)
    assert (model.base_path, model.versions) == (tmp_path / "models" / "digits", "latest")
    for policy, versions in {"latest { num_versions: 2 }": 2, "all {}": "all", "latest {}": "latest"}.items():
        file.write_text(
            'model_config_list { config { name: "digits" base_path: "/models/digits" '
            f"model_version_policy {{ {policy} }} }} }}"
        )
        assert serving.read_model_config(file)[0].versions == versions
    file.write_text("model_config_list { nothing }")
    with pytest.raises(ValueError, match="is not a model configuration"):
        serving.read_model_config(file)


@pytest.mark.parametrize("read", [serving.read_model_config, serving.read_batching_parameters])
def test_configuration_files_that_are_missing(tmp_path, read):
    with pytest.raises(FileNotFoundError, match="absent"):
        read(tmp_path / "absent")
