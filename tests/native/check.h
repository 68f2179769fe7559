// A test harness of one page, so that native tests need g++ and nothing else.
//
//   TEST(name) { CHECK(x); CHECK_EQ(a, b); CHECK_NEAR(a, b, 1e-9); }      and at the end of the file:      ASSAY_TEST_MAIN
//
// Arguments filter by substring. ASSAY_TEST_SEED sets the seed of random tests; it is printed at the start, so that a failure can be run again.
// ASSAY_TEST_SCALE multiplies counts (1 in `make test`, more in `make torture`).
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline int& failures() {
  static int count = 0;
  return count;
}
struct Registrar {
  Registrar(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

inline uint64_t seed() {
  static const uint64_t value = std::getenv("ASSAY_TEST_SEED") ? std::strtoull(std::getenv("ASSAY_TEST_SEED"), nullptr, 10)
                                                               : static_cast<uint64_t>(std::time(nullptr));
  return value;
}
inline std::mt19937_64 random_engine() { return std::mt19937_64(seed()); }
inline int scaled(int count) {
  static const int scale = std::getenv("ASSAY_TEST_SCALE") ? std::atoi(std::getenv("ASSAY_TEST_SCALE")) : 1;
  return count * scale;
}

inline void fail(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  ++failures();
}

template <typename T, typename = void>
struct requires_ostream : std::false_type {};
template <typename T>
struct requires_ostream<T, std::void_t<decltype(std::declval<std::ostream&>() << std::declval<const T&>())>> : std::true_type {};

template <typename A, typename B>
void check_eq(const A& a, const B& b, const char* text, const char* file, int line) {
  if (a == b) return;
  std::ostringstream out;
  out << text << ": ";
  if constexpr (requires_ostream<A>::value && requires_ostream<B>::value) out << a << " != " << b;
  fail(file, line, out.str());
}

// NaN is near nothing.
inline void check_near(double a, double b, double distance_max, const char* text, const char* file, int line) {
  if (a - b <= distance_max && b - a <= distance_max) return;
  std::ostringstream out;
  out.precision(17);
  out << text << ": " << a << " and " << b << " are farther apart than " << distance_max;
  fail(file, line, out.str());
}

inline int main(int argc, char** argv) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed()));
  int passed = 0, failed = 0;
  for (const Test& test : tests()) {
    bool is_chosen = argc < 2;
    for (int i = 1; i < argc; ++i) is_chosen |= std::strstr(test.name, argv[i]) != nullptr;
    if (!is_chosen) continue;
    const int before = failures();
    test.run();
    if (failures() == before) {
      ++passed;
    } else {
      ++failed;
      std::fprintf(stderr, "FAILED %s\n", test.name);
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace check

#define TEST(name)                                              \
  static void test_##name();                                    \
  static check::Registrar registrar_##name(#name, test_##name); \
  static void test_##name()
#define CHECK(condition)                                           \
  do {                                                             \
    if (!(condition)) check::fail(__FILE__, __LINE__, #condition); \
  } while (0)
#define REQUIRE(condition)                         \
  do {                                             \
    if (!(condition)) {                            \
      check::fail(__FILE__, __LINE__, #condition); \
      return;                                      \
    }                                              \
  } while (0)
#define CHECK_NEAR(a, b, distance_max) check::check_near((a), (b), (distance_max), #a ", " #b, __FILE__, __LINE__)
#define CHECK_EQ(a, b) check::check_eq((a), (b), #a " == " #b, __FILE__, __LINE__)
#define ASSAY_TEST_MAIN \
  int main(int argc, char** argv) { return check::main(argc, argv); }
