"""What a training run starts on."""

from forking import predictions


def test_training_starts_without_torchmetrics():
    """Lightning imports it in two seconds, only to compare its version, which it must know all the same."""
    script = """if True:
        import sys
        from manyhot.train.devices import started
        started("32-true")
        from lightning_fabric.utilities import imports
        assert imports._TORCHMETRICS_GREATER_EQUAL_1_0_0
        assert not {"torchmetrics", "transformers"} & set(sys.modules)
    """
    predictions.run(script=script)
