import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from manyhot.core.threads import each_in_threads, one_blas_thread


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.usefixtures("two_threads")
def test_blas_has_one_thread_within_threads_of_our_own():
    found = []
    each_in_threads(lambda _: found.append(blas_threads()), range(3))
    assert found == [{1}] * 3
    assert blas_threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_blas_has_its_threads_back_whichever_thread_ends_first():
    begun, ended = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            begun.set()
            ended.wait(60)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        begun.wait()
        assert blas_threads() == {1}
    ended.set()
    thread.join()
    assert blas_threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_thread_is_raised_and_restores_blas():
    def work(item):
        raise ValueError(str(item))

    with pytest.raises(ValueError, match="0"):
        each_in_threads(work, [0])
    assert blas_threads() == {2}
