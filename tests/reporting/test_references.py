"""The baselines and controls that a table lists."""


def test_the_best_of_each_method_and_the_best_controls_are_listed(made):
    made.metrics("full", 0, made.scores(50.0, "corloc", "mbo_c"))
    kmeans = [(2, 40.0), (3, 45.0), (7, 30.0), (9, 20.0)]
    rows = [
        row | {"name": f"k-means, K = {k}", "num_slots": k}
        for k, value in kmeans
        for row in made.scores(value, "corloc", "mbo_c")
    ]
    made.references("kmeans", rows)
    rows = [
        {"name": name, **row}
        for name, value in (("one slot", 1.0), ("square", 2.0))
        for row in made.scores(value, "mbo_c")
    ]
    made.references("controls", rows)
    labels = made.table(settings=["full"])[0].query("kind != 'setting'")["label"].unique().tolist()
    assert labels == [
        *("k-means, K = 3 (its best mBO^c)", "k-means, K = 7 (as many as slots)", "square"),
    ]
    everything = made.table(settings=["full"], references="all")[0].query("kind != 'setting'")
    assert everything["label"].nunique() == 6


def test_few_references_are_the_best_of_their_kind_and_what_sees_labels(made):
    made.metrics("full", 0, made.scores(50.0, "corloc", "mbo_c"))
    named = {
        "kmeans": {"k-means, K = 3": 45.0, "k-means, K = 7": 40.0},
        "lost": {"LOST": 44.0},
        "probe": {"linear probe": 30.0},
        "oracle": {"oracle": 90.0},
        "controls": {"one slot": 1.0, "square": 2.0},
    }
    for method, values in named.items():
        rows = [
            row | {"name": name}
            for name, value in values.items()
            for row in made.scores(value, "mbo_c") + made.scores(100 - value, "corloc")
        ]
        made.references(method, rows)
    table, _ = made.table(settings=["full"], references="few")
    assert table[table["kind"] != "setting"]["label"].unique().tolist() == [
        "k-means, K = 3 (best without training: mBO^c)",
        "k-means, K = 7 (best without training: CorLoc)",
        *("linear probe", "oracle"),
        "one slot (best control: CorLoc)",
        "square (best control: mBO^c)",
    ]


def test_as_few_as_hold_all_highest_values_are_listed(made):
    made.metrics("full", 0, made.scores(50.0, "corloc", "mbo_c"))
    square = made.scores(40.0, "corloc") + made.scores(30.0, "mbo_c")
    boxes = made.scores(40.0, "corloc", "mbo_c")
    rows = [row | {"name": "square"} for row in square] + [row | {"name": "box"} for row in boxes]
    made.references("controls", rows)
    table, _ = made.table(settings=["full"], references="few")
    assert table.query("kind == 'control'")["label"].unique().tolist() == ["box (best control)"]
