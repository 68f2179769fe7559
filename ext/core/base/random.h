// Random numbers for ids: quick and spread well. Whoever sees some can tell the next: never for secrets.
#pragma once

#include <cstdint>

namespace assay {

// Any thread; each has its own sequence (xoshiro256**), seeded by the kernel. 2 ns.
uint64_t random_u64() noexcept;

// An id of a span, or half of a trace's: never 0.
uint64_t random_id() noexcept;

}  // namespace assay
