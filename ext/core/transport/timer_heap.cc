#include "core/transport/timer_heap.h"

namespace assay {

void TimerHeap::set(Timer& timer, int64_t due_ns) {
  const int64_t before_ns = timer.due_ns_;
  timer.due_ns_ = due_ns;
  if (!timer.is_set()) {
    heap_.push_back(&timer);
    timer.place_ = heap_.size() - 1;
    rise(timer.place_);
  } else if (due_ns < before_ns) {
    rise(timer.place_);
  } else {
    sink(timer.place_);
  }
}

void TimerHeap::cancel(Timer& timer) noexcept {
  if (!timer.is_set()) return;
  const size_t place = timer.place_;
  timer.place_ = Timer::kNowhere;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  put(place, last);
  rise(place);
  sink(last->place_);
}

void TimerHeap::fire_due(int64_t now_ns) noexcept {
  while (next_due_ns() <= now_ns) {
    Timer* timer = heap_.front();
    cancel(*timer);
    timer->fire(now_ns);
  }
}

void TimerHeap::put(size_t place, Timer* timer) noexcept {
  heap_[place] = timer;
  timer->place_ = place;
}

void TimerHeap::rise(size_t place) noexcept {
  Timer* timer = heap_[place];
  while (place > 0) {
    const size_t above = (place - 1) / 2;
    if (heap_[above]->due_ns_ <= timer->due_ns_) break;
    put(place, heap_[above]);
    place = above;
  }
  put(place, timer);
}

void TimerHeap::sink(size_t place) noexcept {
  Timer* timer = heap_[place];
  for (;;) {
    size_t below = 2 * place + 1;
    if (below >= heap_.size()) break;
    if (below + 1 < heap_.size() && heap_[below + 1]->due_ns_ < heap_[below]->due_ns_) ++below;
    if (timer->due_ns_ <= heap_[below]->due_ns_) break;
    put(place, heap_[below]);
    place = below;
  }
  put(place, timer);
}

}  // namespace assay
