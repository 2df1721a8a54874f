"""Reports as text."""

from minidiff.evaluation.reports import Comparison
from minidiff.evaluation.tables import comparison_table, rows, table


def test_the_table_of_a_comparison_has_a_row_for_each_sampler_a_column_for_each_nfe():
    found = Comparison(
        "wasserstein1",
        {"ddpm": {5: 0.5, 10: 0.25}, "heun": {5: 0.125, 10: 1}},
        {"ddpm": {5: 0.02, 10: 0.03}, "heun": {5: 0.04, 10: 0.05}},
        0.01,
    )
    lines = [line.split() for line in comparison_table(found).splitlines()]
    assert lines == [
        ["NFE", "5", "10"],
        ["ddpm", "0.5000", "0.2500"],
        ["±", "0.0200", "0.0300"],
        ["heun", "0.1250", "1.0000"],
        ["±", "0.0400", "0.0500"],
        ["real", "data", "0.0100"],
    ]


def test_the_table_has_a_line_for_each_metric_with_that_of_real_data_beside_it():
    report = {
        "sliced_wasserstein": 0.25,
        "sliced_wasserstein_floor": 0.125,
        "confidence": 0.9,
        "confidence_of_held_out": 0.95,
        "classifier_accuracy": 0.97,
        "class_fractions": [0.1, 0.9],
    }
    lines = table(report).splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        "sliced wasserstein",
        "confidence",
        "classifier accuracy",
        "class fractions",
    ]
    assert "0.2500" in lines[0] and "real data 0.1250" in lines[0]
    assert "0.9000" in lines[1] and "real data 0.9500" in lines[1]
    assert "0.9700" in lines[2] and "real" not in lines[2]
    assert "10.0 90.0" in lines[3] and "%" in lines[3]


def test_what_is_no_figure_is_left_out_of_the_table():
    assert table({}) == "" and rows({"step": 3, "sampler": "ddim"}) == []


def test_a_metric_with_an_error_is_printed_with_it():
    (line,) = table({"bits_per_dim": 1.5, "bits_per_dim_error": 0.25}).splitlines()
    assert "bits per dim" in line and "1.5000" in line and "± 0.2500" in line
