// ExplainDesk: where one row at a time is explained, whoever does it.
//
//   idle -- give() --> busy ----> done -- take() --> idle
//
// THREADS. All of it belongs to one thread, the desk's owner.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/explain/explained_model.h"
#include "core/serving/row_explanation.h"

namespace assay {

class Lane;

struct ExplainJob {
  std::shared_ptr<const explain::ExplainedModel> model;
  std::vector<uint8_t> row;  // finished
  explain::Players players = explain::Players::kGroups;
  uint32_t top_k = 0;
  bool has_tensors = false;    // the answer is numbers (infer_explained.h), not a message
  double score = 0.0;          // that was given
  std::shared_ptr<Lane> lane;  // to be asked; null where the model is not asked
  int64_t deadline_ns = 0;     // what is there by then is told
};

struct ExplainResult {
  ExplanationStatus status = ExplanationStatus::kWithheld;  // kGiven, kWithheld, kLate, kShed
  std::string answer;                                       // kGiven: an assay.v1.Explanation, or numbers
  std::string record;                                       // kGiven: an assay.v1.ExplanationRecord
  int64_t took_ns = 0;
};

class ExplainDesk {
 public:
  virtual ~ExplainDesk() = default;

  // Makes it ready, or ready again once it has ended. kIo.
  virtual Status start() = 0;
  // Nothing of it goes on once this returns. Idempotent. May block.
  virtual void stop() noexcept = 0;
  virtual bool is_alive() const noexcept = 0;
  virtual bool is_idle() const noexcept = 0;
  // REQUIRES: is_idle().
  virtual void give(ExplainJob job) = 0;
  // The result of the job at hand, and makes the desk idle. False: it is not done, or there is none. To be called whenever fd() is
  // readable.
  virtual bool take(int64_t now_ns, ExplainResult* result) = 0;
  // Nobody waits for the job at hand any more: a desk that can ends it early. take() has what comes of it all the same.
  virtual void hurry() noexcept {}
  // Becomes readable when take() may have something to take; -1: the owner is told in another way.
  virtual int fd() const noexcept { return -1; }
};

// What is told of an attribution; kWithheld where it does not add up to the job's score.
ExplainResult tell_explanation(const ExplainJob& job, const explain::Attribution& found);

}  // namespace assay
