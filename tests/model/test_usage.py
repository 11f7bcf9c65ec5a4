from dataclasses import fields

from sidecar.model.usage import Usage

NOT_TOKENS = {"web_searches", "tool_uses", "input_characters", "output_characters", "billed_seconds", "doubt"}


def test_every_class_of_tokens_counts_in_exactly_one_total() -> None:
    for each in fields(Usage):
        if not each.init:
            continue
        usage = Usage(**{each.name: 3})
        assert usage.input_total + usage.output_total == (0 if each.name in NOT_TOKENS else 3), each.name


def test_cached_tokens_are_part_of_the_input() -> None:
    usage = Usage(input_tokens=1, cache_read_tokens=2, cache_read_audio_tokens=3, cache_write_tokens=4, cache_write_1h_tokens=5)
    assert (usage.cache_read_total, usage.cache_write_total, usage.input_total) == (5, 9, 15)


def test_reasoning_is_part_of_the_output() -> None:
    assert Usage(output_tokens=1, reasoning_tokens=2, output_audio_tokens=3).output_total == 6
