import asyncio

import numpy as np
import pytest
import stand_in

from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.server.batching import Batcher
from keras_mixer.serving.server.config import Batching
from keras_mixer.serving.server.metrics import Metrics
from keras_mixer.serving.server.servable import Servable


@pytest.fixture(scope="module")
def servable(bundle):
    return Servable(stand_in.NAME, 1, bundle / stand_in.NAME / "1")


class Recorded(Servable):
    """A servable that notes the rows of each run."""

    def __init__(self, servable):
        vars(self).update(vars(servable))
        self.sizes = []

    def run(self, signature, inputs):
        self.sizes.append(len(next(iter(inputs.values()))))
        return super().run(signature, inputs)


def run(servable, options, requests, signature="serving_default", name="images"):
    """Runs requests that arrive together; gives their results or errors, and the sizes of the batches."""
    recorded = Recorded(servable)

    async def together():
        batcher = Batcher(options, Metrics())
        try:
            definition = servable.signature(signature)
            calls = [batcher.run(recorded, definition, {name: request}) for request in requests]
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            batcher.close()

    return asyncio.run(together()), recorded.sizes


def check(results, requests):
    for result, request in zip(results, requests, strict=True):
        np.testing.assert_allclose(result["scores"], stand_in.expected_scores(request, 1), atol=1e-6)


REQUESTS = [stand_in.images(seed, count) for seed, count in enumerate([1, 3, 2, 1])]


def test_requests_that_arrive_together_run_together(servable):
    results, sizes = run(servable, Batching(), REQUESTS)
    check(results, REQUESTS)
    assert sizes == [7]


def test_without_batching_each_runs_by_itself(servable):
    results, sizes = run(servable, None, REQUESTS)
    check(results, REQUESTS)
    assert sorted(sizes) == [1, 1, 2, 3]


def test_batches_are_padded_to_the_allowed_sizes(servable):
    results, sizes = run(servable, Batching(max_batch_size=16, allowed_batch_sizes=(4, 12, 16)), REQUESTS)
    check(results, REQUESTS)
    assert sizes == [12]


def test_a_full_batch_leaves_the_rest_for_the_next(servable):
    results, sizes = run(servable, Batching(max_batch_size=4), REQUESTS)
    check(results, REQUESTS)
    assert sizes == [4, 3]


def test_a_request_beyond_the_batch_size_is_split(servable):
    requests = [stand_in.images(9, 11)]
    results, sizes = run(servable, Batching(max_batch_size=4), requests)
    check(results, requests)
    assert sizes == [4, 4, 3]


def test_a_request_beyond_the_queue_is_answered_whole(servable):
    requests = [stand_in.images(7, 11)]
    results, sizes = run(servable, Batching(max_batch_size=2, max_enqueued_batches=2), requests)
    check(results, requests)
    assert sizes == [2, 2, 2, 2, 2, 1]


def test_a_request_of_any_length_leaves_room_for_others(servable):
    requests = [stand_in.images(7, 40), *(stand_in.images(seed, 1) for seed in range(3))]
    results, sizes = run(servable, Batching(max_batch_size=2, max_enqueued_batches=4), requests)
    check(results, requests)
    # The small ones come third at the latest, and fill up the last batch or two.
    assert sizes[:2] == [2, 2]
    assert sum(sizes) == 43


def test_a_bad_file_harms_no_other_request_of_its_batch(servable):
    files = [stand_in.png(seed) for seed in range(4)]
    files[2] = files[2][:-60]
    requests = [np.array([data], dtype=object) for data in files]
    results, sizes = run(servable, Batching(), requests, "serving_bytes", "image_bytes")
    assert sizes == [4, 1, 1, 1, 1]
    assert isinstance(results[2], RequestError)
    assert results[2].code == "INVALID_ARGUMENT"
    for k in (0, 1, 3):
        ((expected, *_),) = stand_in.expected_top([files[k]], 1)
        assert results[k]["labels"][0, 0].decode() == expected[0]


def test_too_many_waiting_requests_are_refused(servable):
    options = Batching(max_batch_size=2, max_enqueued_batches=2)
    results, _ = run(servable, options, [stand_in.images(seed, 1) for seed in range(6)])
    refused = [result for result in results if isinstance(result, RequestError)]
    assert [error.code for error in refused] == ["UNAVAILABLE"] * 2
    check(results[:4], [stand_in.images(seed, 1) for seed in range(4)])


def test_a_request_whose_caller_has_gone_is_not_run(servable):
    recorded = Recorded(servable)

    async def call_and_leave():
        batcher = Batcher(Batching(), Metrics())
        signature = servable.signature("")
        calls = [asyncio.ensure_future(batcher.run(recorded, signature, {"images": request})) for request in REQUESTS]
        await asyncio.sleep(0)  # both are enqueued, and leave in the next turn of the loop
        calls[1].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        batcher.close()
        return results

    results = asyncio.run(call_and_leave())
    assert isinstance(results[1], asyncio.CancelledError)
    assert recorded.sizes == [4]
