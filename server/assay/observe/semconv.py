"""Names of OpenTelemetry's semantic conventions that we use (RPC conventions as of 1.44), and our own beside them.

In one place because the RPC ones still move: `rpc.grpc.status_code` became `rpc.response.status_code` and will be
`rpc.status_code`.
"""

from __future__ import annotations

from typing import Final

ERROR_TYPE: Final = "error.type"
RPC_METHOD: Final = "rpc.method"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
RPC_SYSTEM_NAME: Final = "rpc.system.name"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"

RPC_SYSTEM_GRPC: Final = "grpc"

ASSAY_BATCH_ROWS: Final = "assay.batch_rows"  # of the largest run that scored a row of the call
ASSAY_DECISION: Final = "assay.decision"
ASSAY_DEGRADED: Final = "assay.degraded"
ASSAY_FAILED_ROWS: Final = "assay.failed_rows"
ASSAY_MODEL: Final = "assay.model"
ASSAY_PRIORITY: Final = "assay.priority"
ASSAY_RECORDED_BECAUSE: Final = "assay.recorded_because"  # sampled, slow, failed, declined
ASSAY_ROWS: Final = "assay.rows"
ASSAY_VERSION: Final = "assay.version"

# gRPC statuses by which a server's span is an error; with the others the client was wrong, or left.
SERVER_ERROR_CODES: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
