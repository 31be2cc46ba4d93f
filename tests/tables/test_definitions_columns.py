import pyarrow as pa

from manyhot.tables.definitions import REAL, TEXT, Column, bounds, interval


def test_a_type_declares_columns():
    assert TEXT("a", "an a", values=("x",)) == Column("a", pa.string(), "an a", values=("x",))
    assert TEXT.nullable("a", "an a") == Column("a", pa.string(), "an a", nullable=True)
    assert REAL.optional("b", "a b") == Column("b", pa.float64(), "a b", required=False, nullable=True)


def test_an_interval_is_a_value_and_two_ends():
    value, lo, hi = interval("lift", "the lift", value=REAL)
    assert value == Column("lift", pa.float64(), "the lift")
    assert lo == Column("lift_lo", pa.float64(), "lower end of its 95 % interval", nullable=True)
    assert hi == Column("lift_hi", pa.float64(), "upper end of its 95 % interval", nullable=True)
    optional = interval("ap", "AP", "it", value=REAL.optional, ends=REAL.optional)
    assert [(c.name, c.doc, c.required) for c in optional] == [
        ("ap", "AP", False),
        ("ap_lo", "lower end of it", False),
        ("ap_hi", "upper end of it", False),
    ]
    assert not any(c.nullable for c in bounds("lo", "hi", column=REAL))
