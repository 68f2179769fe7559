"""confluent-kafka, which only those need who read from Kafka."""

from __future__ import annotations

from types import ModuleType

from assay.errors import ConfigError


def load_kafka() -> ModuleType:
    """The module confluent_kafka. Raises ConfigError where it is not installed."""
    try:
        import confluent_kafka
    except ImportError as error:
        raise ConfigError(f"--kafka needs confluent-kafka ({error}): pip install 'confluent-kafka>=2.6'") from None
    module: ModuleType = confluent_kafka
    return module
