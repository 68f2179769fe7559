// Every limit of the core that is not configuration. A limit has a name here, a status and a test at max and max + 1.
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay::limits {

inline constexpr size_t kIdBytesMax = 128;               // transaction_id and entity ids
inline constexpr size_t kNameBytesMax = 64;              // names of features, entities, views, inputs, models
inline constexpr size_t kStringValueBytesMax = 256;      // a string feature or attribute
inline constexpr size_t kViolationsMax = 32;             // listed in one answer; the rest is counted
inline constexpr size_t kViolationsBytesMax = 4608;      // of those, encoded: trailers are cut at 8 KiB by many clients
inline constexpr size_t kMapEntriesMax = 512;            // entries of one map on the wire
inline constexpr int kWireDepthMax = 100;                // nested messages and skipped groups, as google.protobuf
inline constexpr size_t kBatchRowsWireMax = 4096;        // rows of one ScoreBatch call, whatever the configuration
inline constexpr size_t kEventsPerMessageMax = 1000;     // events of one RecordEventsRequest
inline constexpr size_t kEventLineBytesMax = 64 * 1024;  // one JSON line
inline constexpr int kJsonDepthMax = 8;

inline constexpr size_t kEntitiesMax = 8;
inline constexpr size_t kRequestFeaturesMax = 256;
inline constexpr size_t kViewsMax = 16;
inline constexpr size_t kColumnsMax = 8;           // columns of one window view
inline constexpr size_t kWindowsMax = 8;           // distinct windows of one view
inline constexpr size_t kAggregatesMax = 64;       // aggregates of one view
inline constexpr size_t kAttributesMax = 64;       // attributes of one view
inline constexpr size_t kNodesMax = 1024;          // values in one plan
inline constexpr size_t kModelInputsMax = 512;     // features of one model
inline constexpr size_t kTensorsMax = 64;          // ONNX inputs of one model
inline constexpr size_t kBackgroundRowsMax = 128;  // rows against which a model's scores are explained
inline constexpr size_t kVocabularyMax = 100'000;  // entries of one vocabulary
inline constexpr uint32_t kExactEventsMin = 256;   // smallest ring a view may ask for
inline constexpr uint32_t kExactEventsMax = 4096;
inline constexpr size_t kTilesMax = 2048;                      // tiles of one record
inline constexpr uint64_t kTileEventsMax = uint64_t{1} << 48;  // events a stored tile may claim; keeps 128-bit sums safe
inline constexpr size_t kLanesMax = 16;
inline constexpr size_t kTensorRankMax = 16;               // axes of a tensor, the batch included
inline constexpr uint32_t kTensorRowBytesMax = 256 << 10;  // of one row of a model without a feature set: its inputs, its outputs
inline constexpr size_t kAuditRowBytesMax = 8 << 10;       // longer ones stand in the audit log as a digest
inline constexpr size_t kAuditOutputsBytesMax = 256;       // the same of what ModelInfer gives for a row

inline constexpr int64_t kWindowUsMax = 3660LL * 86'400 * 1'000'000;  // a window, a delay, a lateness: ten years
inline constexpr int64_t kAheadUsMax = 5LL * 60 * 1'000'000;          // of a clock: a time that changes state (event_writer.h)
inline constexpr int64_t kTimeUsMin = -62'135'596'800'000'000LL;      // 0001-01-01T00:00:00Z
inline constexpr int64_t kTimeUsMax = 253'402'300'799'999'999LL;      // 9999-12-31T23:59:59.999999Z

}  // namespace assay::limits
