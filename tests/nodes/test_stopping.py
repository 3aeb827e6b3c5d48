"""Which run is asked to end early: the one that is named, and no other."""

import pytest

pytestmark = pytest.mark.usefixtures("comfy_host")


@pytest.fixture
def running():
    """running(prompt, node) opens a run that can be stopped; gives what says whether it was asked to."""
    from contextlib import ExitStack

    from comfy_execution.utils import CurrentNodeContext

    from comfyui_spacetime.nodes.host.stopping import stoppable

    with ExitStack() as opened:

        def begin(prompt: str, node: str):
            with CurrentNodeContext(prompt, node):
                return opened.enter_context(stoppable())

        yield begin


def test_a_prompts_node_is_asked_alone(running):
    from comfyui_spacetime.nodes.host.stopping import stop

    one, two, other = running("a", "1"), running("a", "2"), running("b", "1")
    assert stop({"prompt_id": "a", "node_id": "2"}) == {"stopping": ["2"]}
    assert [one(), two(), other()] == [False, True, False]
    assert stop({"prompt_id": "a"}) == {"stopping": ["1", "2"]}
    assert [one(), two(), other()] == [True, True, False]


@pytest.mark.parametrize(
    "query",
    [{}, {"prompt_id": "b"}, {"node_id": "1"}, {"prompt_id": "a", "node_id": "2"}, {"prompt_id": "../" * 10**6}],
    ids=["nothing", "another prompt", "a node alone", "another node", "long"],
)
def test_what_runs_not_is_said_in_a_sentence(running, query):
    from comfyui_spacetime.nodes.host.stopping import stop

    run = running("a", "1")
    with pytest.raises(ValueError, match="nothing that can be stopped early runs") as refused:
        stop(query)
    assert len(str(refused.value)) < 300
    assert not run()


def test_a_run_that_no_host_knows_goes_to_its_end():
    from comfyui_spacetime.nodes.host.stopping import stoppable

    with stoppable() as stopped:
        assert not stopped()
