import importlib.util
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from guard.checkpoint import open_checkpoint
from guard.errors import RecipeError
from guard.training.recipe import SECTIONS, SHIPPED_RECIPES, read_recipe, shipped_names
from guard.training.settings import Recipe

SMALL = """\
name: mine
template: rsafe-compact-1
seed: 7
stages:
  - name: first
    seed: 1
    phases:
      - {steps: 3, batch: {task: full, policies: 2, exchanges: 2}}
"""


def there(name: str) -> bool:
    module, _, _ = SECTIONS[name].partition(":")
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def write(folder: Path, text: str) -> str:
    file = folder / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def refusal(folder: Path, text: str) -> str:
    """What is said of a recipe, without the folder of the file."""
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(folder, text))
    return str(caught.value).removeprefix(f"{folder}/")


def test_tiny_is_the_recipe_of_the_shipped_checkpoint() -> None:
    manifest = open_checkpoint("tiny").manifest
    assert manifest is not None
    assert msgspec.convert(manifest.training["recipe"], Recipe) == read_recipe("tiny")


def test_smoke_has_every_stage_of_tiny_for_a_few_steps() -> None:
    tiny, smoke = read_recipe("tiny"), read_recipe("smoke")
    assert [stage.name for stage in smoke.stages] == [stage.name for stage in tiny.stages]
    assert [[p.batch.task for p in s.phases] for s in smoke.stages] == [
        [p.batch.task for p in s.phases] for s in tiny.stages
    ]
    assert sum(stage.steps for stage in smoke.stages) < 60
    assert smoke.model == tiny.model


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_recipe_is_valid_and_named_like_its_file(name: str) -> None:
    content = yaml.safe_load((SHIPPED_RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    lacking = [part for part in SECTIONS if part in content and not there(part)]
    if lacking:
        pytest.skip(f"this version has no {', '.join(lacking)}")
    assert read_recipe(name).name == name


def test_the_recipes_that_the_pages_name_are_shipped() -> None:
    assert shipped_names() == ["lora-1gpu", "real-text", "rsafe-7b", "smoke", "tiny"]


def test_a_file_is_read_as_a_shipped_recipe_is(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, SMALL))
    assert (recipe.name, recipe.seed, recipe.stages[0].steps) == ("mine", 7, 3)
    assert recipe.from_scratch
    assert read_recipe(str(SHIPPED_RECIPES / "tiny.yaml")) == read_recipe("tiny")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("seed: 7", "seed: seven"),
            "recipe.yaml:3: seed: found 'seven'; expected a whole number, at least 0",
        ),
        (("seed: 7", "seed: -1"), "recipe.yaml:3: seed: found -1; expected a whole number, at least 0"),
        (("seed: 7", "seed: 1.5"), "recipe.yaml:3: seed: found 1.5; expected a whole number"),
        (("seed: 7", "seed: true"), "recipe.yaml:3: seed: found true; expected a whole number"),
        (("seed: 7", "seed:"), "recipe.yaml:3: seed: found nothing; expected a whole number"),
        (("seed: 7\n", ""), "recipe.yaml:1: seed: found nothing; expected a whole number"),
        (("seed: 7", "seeds: 7"), "recipe.yaml:3: seeds: no such field; did you mean seed?"),
        (
            ("steps: 3", "steps: 0"),
            "recipe.yaml:8: stages[0].phases[0].steps: found 0; expected a whole number, ",
        ),
        (
            ("task: full", "task: half"),
            "recipe.yaml:8: stages[0].phases[0].batch.task: found 'half'; expected one of bare, crossed, ",
        ),
        (
            ("exchanges: 2", "exchange: 2"),
            "recipe.yaml:8: stages[0].phases[0].batch.exchange: no such field; did you mean exchanges?",
        ),
        (
            ("    seed: 1\n", "    seed: 1\n    cool_down: 2\n"),
            "recipe.yaml:7: stages[0].cool_down: found 2; expected",
        ),
        (("name: mine", "name: ../mine"), "recipe.yaml:1: name: found '../mine'; expected text of the form"),
        (("name: mine", "name: mine\nname: twice"), "recipe.yaml:2: name: found twice; expected once"),
        (
            ("name: mine", "name: mine\nmodel: {width: 100}"),
            "model.width: found 100; expected a multiple of head_width",
        ),
        (
            ("name: mine", "name: mine\nmodel: 3"),
            "recipe.yaml:2: model: found 3; expected fields (vocabulary, ",
        ),
        (
            ("name: mine", "name: mine\nbase: other/base"),
            "stages: found a list of 1; expected none: only the base",
        ),
        (("name: mine", "name: mine\nwarm_start: {}"), "warm_start: found no fields; expected none"),
        (("name: mine", "name: mine\ngrpo: {}"), "data: found nothing; expected rows for"),
        (
            ("name: mine", "name: mine\nchampion: tiny"),
            "champion: found 'tiny'; expected none without `gate`",
        ),
        (
            ("task: full", "task: rows"),
            "recipe.yaml:8: stages[0].phases[0].batch.task: found 'rows'; expected rows in `data` to",
        ),
        (
            ("name: mine", "name: mine\nmodel: {tokenizer: rows}"),
            "recipe.yaml:2: model.tokenizer: found 'rows'; expected rows in `data`, whose words",
        ),
        (("stages:", "stages: 3 #"), "recipe.yaml:"),
        (("name: mine", "name: [mine"), "recipe.yaml:"),
        (("name: mine", "? [a]\n: 3"), "recipe.yaml:1: expected a name before the colon"),
        (("seed: 7", "seed: 1e999"), "found '1e999'; expected a number of usual size"),
        (("seed: 7", "seed: !!python/name:os.system x"), "recipe.yaml:3: could not determine a constructor"),
        (("seed: 7", "seed: \x00"), "recipe.yaml:3: found a character that YAML does not allow"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in SMALL
    assert said in refusal(tmp_path, SMALL.replace(*change))


def test_drills_of_rows_ask_for_data_too(tmp_path: Path) -> None:
    drills = "    drills:\n      - {task: rows, policies: 2, exchanges: 2}\n    phases:"
    said = refusal(tmp_path, SMALL.replace("    phases:", drills))
    assert "recipe.yaml:8: stages[0].drills[0].task: found 'rows'; expected rows in `data`" in said


def test_rows_that_the_model_has_no_positions_for_are_refused(tmp_path: Path) -> None:
    data = "data: {sources: [{kind: generator, train_rows: 9}], max_prompt_tokens: 1600}"
    rows = SMALL.replace("task: full", "task: rows")
    said = refusal(tmp_path, f"{rows}{data}\n")
    assert (
        "recipe.yaml:9: data.max_prompt_tokens: found 1600 with max_completion_tokens 512; expected at most"
        " model.max_positions, 2048"
    ) in said
    fitting = data.replace("1600", "1500")
    assert read_recipe(write(tmp_path, f"{rows}{fitting}\n")).draws_rows
    # The generator's conversations are drawn within the positions: the rows are only measured.
    assert not read_recipe(write(tmp_path, f"{SMALL}{data}\n")).draws_rows


def test_two_stages_of_one_name_are_refused(tmp_path: Path) -> None:
    stage = SMALL[SMALL.index("  - name: first") :]
    assert "stages[1].name: found 'first'; expected a name that no other stage has" in refusal(
        tmp_path, SMALL + stage
    )


@pytest.mark.parametrize("text", ["", "- 1", "just text", "3", "# a comment"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text) == (
        "recipe.yaml:1: found no fields; expected a recipe: fields such as `name:` and `stages:`"
    )


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = SMALL.replace("    seed: 1\n", "    seed: 010\n    muon_lr: 1e-7\n    adam_lr: .5\n")
    stage = read_recipe(write(tmp_path, text)).stages[0]
    assert (stage.seed, stage.muon_lr, stage.adam_lr) == (10, 1e-7, 0.5)
    assert read_recipe(write(tmp_path, SMALL.replace("name: mine", "name: no"))).name == "no"


def test_aliases_are_read_and_a_bomb_of_them_is_not(tmp_path: Path) -> None:
    text = SMALL.replace("batch: {", "batch: &b {").rstrip() + "\n      - {steps: 1, batch: *b}\n"
    phases = read_recipe(write(tmp_path, text)).stages[0].phases
    assert phases[0].batch == phases[1].batch
    bomb = "a0: &a0 [1, 1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40))
    assert "aliases written out" in refusal(tmp_path, bomb)


def test_what_is_no_file_and_no_name_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"expected a file, or a shipped name \(.*smoke, tiny\)"):
        read_recipe("no-such")


def test_other_bytes_than_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(b"name: a\n# \xff\n")
    with pytest.raises(RecipeError, match=r"recipe.yaml:2: found other bytes; expected UTF-8"):
        read_recipe(str(file))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=6), below, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(Recipe.__struct_fields__)), values)
def test_whatever_a_field_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    content = yaml.safe_load(SMALL) | {name: value}
    file = write(tmp_path_factory.mktemp("recipe"), yaml.safe_dump(content, allow_unicode=True))
    if name in SECTIONS and value is not None and not there(name):
        return
    try:
        assert isinstance(read_recipe(file), Recipe)
    except RecipeError as error:
        assert ":" in str(error)  # noqa: PT017 - either is right


@given(st.text(max_size=60))
def test_whatever_a_file_holds_it_is_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeError, match=r"recipe\.yaml:\d+: "):
        read_recipe(str(file))
