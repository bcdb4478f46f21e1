import pytest
import torch

from vision_repro.models.layers.position import Positions, RelativeAttention, Table, TwoTables, relative_logits


def test_a_table_has_a_row_for_each_token() -> None:
    assert Table(3, 8, class_token=True)().shape == (1, 10, 8)
    assert Table(3, 8, class_token=False)().shape == (1, 9, 8)


@pytest.mark.parametrize("class_token", [True, False])
def test_two_tables_are_concatenated_by_column_and_row(class_token: bool) -> None:
    tables = TwoTables(3, 8, class_token)
    found = tables()[0]
    assert found.shape == (9 + class_token, 8)
    for y in range(3):
        for x in range(3):
            row = found[class_token + 3 * y + x]
            assert torch.equal(row, torch.cat((tables.columns[x], tables.rows[y])))
    if tables.class_row is not None:
        assert torch.equal(found[:1], tables.class_row)


@pytest.mark.parametrize(("placement", "count"), [("stem", 1), ("every", 4), ("shared", 1)])
def test_placements(placement: str, count: int) -> None:
    positions = Positions(Table, placement, depth=4, side=2, width=8, class_token=True)
    found = [positions(layer) for layer in range(4)]
    assert len({id(item) for item in found}) == count == len(positions.tables)
    assert positions.repeated == (placement != "stem")


@pytest.mark.parametrize("tokens", [1, 2, 5, 17])
def test_relative_logits_are_those_of_a_double_loop(tokens: int) -> None:
    torch.manual_seed(0)
    query, offsets = torch.randn(2, 3, tokens, 4), torch.randn(3, 2 * tokens - 1, 4)
    found = relative_logits(query, offsets)
    assert found.shape == (2, 3, tokens, tokens)
    for q in range(tokens):
        for k in range(tokens):
            expected = (query[:, :, q] * offsets[:, tokens - 1 - (q - k)]).sum(2)
            torch.testing.assert_close(found[:, :, q, k], expected)


def test_relative_logits_have_the_gradient_of_the_double_loop() -> None:
    torch.manual_seed(0)
    query = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    offsets = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(relative_logits, (query, offsets))


def test_relative_attention_without_offsets_is_attention() -> None:
    torch.manual_seed(0)
    layer = RelativeAttention(32, num_heads=2, qkv_bias=True)
    layer.add_offsets(5)
    with torch.no_grad():
        layer.offsets.zero_()
    tokens = torch.randn(2, 5, 32)
    expected = super(RelativeAttention, layer).forward(tokens)
    torch.testing.assert_close(layer(tokens), expected)


@pytest.mark.parametrize("fused", [True, False])
def test_a_large_offset_embedding_draws_all_attention(fused: bool) -> None:
    torch.manual_seed(0)
    layer = RelativeAttention(16, num_heads=1, qkv_bias=True)
    layer.add_offsets(4)
    layer.fused_attn = fused
    with torch.no_grad():
        layer.qkv.weight[:32].zero_()
        layer.qkv.bias[:16].fill_(1)  # all queries are ones, all keys are zero
        layer.qkv.bias[16:].zero_()
        layer.offsets.zero_()
        layer.offsets[4 - 1 - 1].fill_(100.0)  # p_query - p_key = 1: the token before
        layer.proj.weight.copy_(torch.eye(16))
        layer.proj.bias.zero_()
    tokens = torch.randn(1, 4, 16)
    values = tokens @ layer.qkv.weight[32:].T
    torch.testing.assert_close(layer(tokens)[:, 1:], values[:, :-1])
    torch.testing.assert_close(layer(tokens)[:, 0], values.mean(1))  # the first has none before it


def test_relative_attention_refuses_a_mask() -> None:
    layer = RelativeAttention(16, num_heads=1)
    layer.add_offsets(4)
    with pytest.raises(NotImplementedError, match="takes no mask"):
        layer(torch.randn(1, 4, 16), attn_mask=torch.zeros(4, 4))
