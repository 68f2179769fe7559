"""Feature sets that several tests use."""

from __future__ import annotations

# Windows with and without labels and delay, attributes, text, and a default for every null: it scores without its store.
SHOP = """
name: shop
version: "1"
entities: [customer_id, terminal_id]
request_features:
  amount_minor: {dtype: int64, minimum: 0}
  channel: {dtype: string, required: false}
views:
  customer:
    entity: customer_id
    current: include
    aggregates:
      count_1d: {op: count, window: 1d}
      sum_7d: {op: sum, of: amount_minor, window: 7d}
      channels_7d: {op: distinct, of: channel, window: 7d}
  terminal:
    entity: terminal_id
    labels: true
    delay: 7d
    aggregates:
      risk_30d: {op: rate_true, of: is_fraud, window: 30d}
      seen_30d: {op: count, window: 30d}
  profile:
    kind: attributes
    entity: customer_id
    attributes: {opened: int64, tier: string}
derived:
  tier_index: {op: vocabulary, of: tier, words: [gold, silver], unknown: 2}
inputs:
  - {name: count_1d, when_null: {default: -1}}
  - {name: sum_7d, when_null: {default: -1}, dtype: float64}
  - {name: channels_7d, when_null: {default: -1}}
  - {name: risk_30d, when_null: {default: -1}}
  - {name: seen_30d, when_null: {default: -1}}
  - {name: opened, when_null: {default: -1}, dtype: float64}
  - {name: tier_index, when_null: {default: -1}}
"""
