// transport/peer_identity and role_table: what a certificate's names are, one hidden in another, and what they may do.
#include "check.h"
#include "core/transport/role_table.h"
#include "tls_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : " ") + text;
  return all;
}

std::string principals_of(const CertificateSpec& spec) {
  const PeerIdentity identity = identity_of_certificate(*issue(spec, &house().authority).certificate);
  CHECK(identity.has_certificate);
  return joined(identity.principals);
}

std::string principals_of(std::vector<AlternativeName> names) {
  CertificateSpec spec;
  spec.common_name = "common";
  spec.names = std::move(names);
  return principals_of(spec);
}

std::string principals_of_common_name(const std::string& name, int type = V_ASN1_UTF8STRING) {
  CertificateSpec spec;
  spec.common_name = name;
  spec.common_name_type = type;
  return principals_of(spec);
}

std::string with_nul(const std::string& name) { return name + std::string("\0.evil", 6); }

PeerIdentity peer(std::vector<std::string> principals, int64_t expires_at_s = 1000) {
  PeerIdentity identity;
  identity.has_certificate = true;
  identity.principals = std::move(principals);
  identity.expires_at_s = expires_at_s;
  return identity;
}

constexpr uint8_t only(Role role) { return static_cast<uint8_t>(role); }

}  // namespace

// --- names ---

TEST(a_spiffe_id_is_best_then_dns_names_in_lower_case) {
  CHECK_EQ(principals_of({{GEN_DNS, "Core.BANK.internal"}, {GEN_URI, "spiffe://bank.example/Core"}, {GEN_DNS, "b.internal"}}),
           "spiffe://bank.example/Core dns:core.bank.internal dns:b.internal");
}

TEST(what_is_a_spiffe_id) {
  const std::string longest = "spiffe://a/" + std::string(2048 - 11, 'x'), domain(255, 'd');
  for (const std::string& good :
       {std::string("spiffe://a/b"), std::string("spiffe://a/b/c"), longest, "spiffe://" + domain + "/b"})
    CHECK_EQ(principals_of({{GEN_URI, good}}), good);
  for (const std::string& bad :
       {std::string("https://a/b"), std::string("spiffe://a"), std::string("spiffe://a/"), std::string("spiffe://a//b"),
        std::string("spiffe:///b"), std::string("SPIFFE://a/b"), std::string("spiffe://"), std::string("spiffe:/"), longest + "x",
        "spiffe://" + domain + "d/b", with_nul("spiffe://a/b"), std::string("spiffe://a/\xc3\xa4")}) {
    CHECK_EQ(principals_of({{GEN_URI, bad}}), "");
  }
}

TEST(a_spiffe_id_is_the_only_uri) {
  CHECK_EQ(principals_of({{GEN_URI, "spiffe://a/b"}, {GEN_URI, "https://a/"}, {GEN_DNS, "x"}}), "dns:x");
  CHECK_EQ(principals_of({{GEN_URI, "spiffe://a/b"}, {GEN_URI, "spiffe://a/b"}}), "");
}

TEST(the_common_name_counts_only_without_any_alternative_name) {
  CHECK_EQ(principals_of_common_name("Old Service"), "cn:Old Service");
  CHECK_EQ(principals_of({{GEN_DNS, "x"}}), "dns:x");
  for (const AlternativeName& other :
       {AlternativeName{GEN_EMAIL, "a@b.c"}, AlternativeName{GEN_IPADD, "\x7f\1\1\1"}, AlternativeName{GEN_DIRNAME, ""},
        AlternativeName{GEN_URI, "https://x/"}, AlternativeName{GEN_DNS, ""}, AlternativeName{GEN_DNS, with_nul("x")}}) {
    CHECK_EQ(principals_of({other}), "");
  }
  CertificateSpec spec;
  spec.common_name = "common";
  spec.has_empty_names = true;
  CHECK_EQ(principals_of(spec), "");
  CHECK_EQ(principals_of(CertificateSpec()), "");
}

TEST(damaged_or_doubled_alternative_names_are_no_reason_to_read_the_common_name) {
  for (const bool is_doubled : {false, true}) {
    CertificateSpec spec = is_doubled ? dns_spec("x") : CertificateSpec();
    spec.common_name = "common";
    Pair pair = issue(spec, &house().authority);
    ASN1_OCTET_STRING* value = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(value, reinterpret_cast<const unsigned char*>("junk"), 4);
    X509_EXTENSION* extension = X509_EXTENSION_create_by_NID(nullptr, NID_subject_alt_name, 0, value);
    X509_add_ext(pair.certificate.get(), extension, -1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
    CHECK_EQ(joined(identity_of_certificate(*pair.certificate).principals), "");
  }
}

TEST(a_name_with_a_nul_is_not_the_name_before_it) {
  CHECK_EQ(principals_of({{GEN_DNS, with_nul("core")}, {GEN_DNS, "other"}, {GEN_DNS, std::string("\0core", 5)}}), "dns:other");
  CHECK_EQ(principals_of_common_name(with_nul("old-service")), "");
  CHECK_EQ(principals_of_common_name(std::string("old\0", 4)), "");
}

TEST(names_are_text_of_their_type) {
  CHECK_EQ(principals_of_common_name("caf\xc3\xa9"), "cn:caf\xc3\xa9");
  CHECK_EQ(principals_of_common_name("plain", V_ASN1_PRINTABLESTRING), "cn:plain");
  CHECK_EQ(principals_of_common_name("plain", V_ASN1_T61STRING), "cn:plain");
  CHECK_EQ(principals_of_common_name("caf\xe9", V_ASN1_T61STRING), "");
  CHECK_EQ(principals_of_common_name(std::string("\0a\0b", 4), V_ASN1_BMPSTRING), "");
  CHECK_EQ(principals_of({{GEN_DNS, "b\xc3\xbc"}, {GEN_DNS, "\xff"}}), "");
}

// Such a certificate cannot be signed with OpenSSL, but with something else.
TEST(a_common_name_that_is_not_utf8) {
  CertificateSpec spec;
  spec.common_name = "caf\xc3\xa9";
  const Pair pair = issue(spec, &house().authority);
  X509_NAME_ENTRY* entry = X509_NAME_get_entry(X509_get_subject_name(pair.certificate.get()), 0);
  ASN1_STRING_set(X509_NAME_ENTRY_get_data(entry), "caf\xe9", 4);
  CHECK_EQ(joined(identity_of_certificate(*pair.certificate).principals), "");
}

TEST(of_several_common_names_the_first_counts) {
  CertificateSpec spec;
  spec.common_name = "first";
  Pair pair = issue(spec, &house().authority);
  X509_NAME_add_entry_by_NID(X509_get_subject_name(pair.certificate.get()), NID_commonName, V_ASN1_UTF8STRING,
                             reinterpret_cast<const unsigned char*>("second"), 6, -1, 0);
  CHECK_EQ(joined(identity_of_certificate(*pair.certificate).principals), "cn:first");
}

TEST(names_have_limits) {
  for (const size_t count : {kPrincipalsMax, kPrincipalsMax + 1}) {
    CertificateSpec spec;
    for (size_t i = 0; i < count; ++i) spec.names.push_back({GEN_DNS, "n" + std::to_string(i)});
    const PeerIdentity identity = identity_of_certificate(*issue(spec).certificate);
    CHECK_EQ(identity.principals.size(), kPrincipalsMax);
    CHECK_EQ(identity.principals.back(), "dns:n" + std::to_string(kPrincipalsMax - 1));
  }
  const std::string long_name(kPrincipalsBytesMax - 4, 'x');
  CHECK_EQ(principals_of({{GEN_DNS, long_name}}).size(), kPrincipalsBytesMax);
  CHECK_EQ(principals_of({{GEN_DNS, long_name + "x"}}), "");
  CHECK_EQ(principals_of({{GEN_DNS, long_name}, {GEN_DNS, "y"}}).size(), kPrincipalsBytesMax);
}

TEST(the_time_a_certificate_expires) {
  CertificateSpec spec = dns_spec("x");
  for (const int64_t until_s : {int64_t{3600}, int64_t{-100}, int64_t{40} * 365 * 86'400}) {  // the last one is past 2050
    spec.until_s = until_s;
    const int64_t before = std::time(nullptr);
    const PeerIdentity identity = identity_of_certificate(*issue(spec).certificate);
    CHECK(identity.expires_at_s >= before + until_s && identity.expires_at_s <= std::time(nullptr) + until_s);
  }
  CHECK(!peer({}, 1000).has_expired(999));
  CHECK(peer({}, 1000).has_expired(1000));
  CHECK(!PeerIdentity().has_expired(1000));
}

// --- of a connection ---

namespace {

// The server's view of a client with this certificate, or without.
PeerIdentity seen(const Pair* pair, bool asks, bool shakes = true) {
  const std::string authorities = pem_of(house().authority.certificate), none;
  const std::string certificate = pem_of(house().server.certificate), key = pem_of(house().server.key);
  const std::string client_certificate = pair != nullptr ? pem_of(pair->certificate) : none;
  const std::string client_key = pair != nullptr ? pem_of(pair->key) : none;
  std::shared_ptr<const TlsContext> server_side;
  std::shared_ptr<const TlsClientContext> client_side;
  must(TlsContext::make({certificate, key, asks ? authorities : none}, &server_side).ok(), "a server's context");
  must(TlsClientContext::make({authorities, client_certificate, client_key}, &client_side).ok(), "a client's context");
  Wire wire;
  TlsStream server(wire.end(kServer), *server_side), client(wire.end(kClient), *client_side, "localhost");
  if (shakes) shake(server, client, wire);
  return identity_of(server);
}

}  // namespace

TEST(only_what_is_verified_has_an_identity) {
  const PeerIdentity good = seen(&house().client, true);
  CHECK(good.has_certificate && good.expires_at_s > std::time(nullptr));
  CHECK_EQ(joined(good.principals), "dns:core.bank.internal");
  const Pair stranger = issue(dns_spec("core.bank.internal"));
  for (const PeerIdentity& nobody : {seen(&house().client, false), seen(nullptr, false), seen(nullptr, true),
                                     seen(&stranger, true), seen(&house().client, true, false)}) {
    CHECK(!nobody.has_certificate && nobody.principals.empty() && nobody.expires_at_s == 0);
  }
}

// --- roles ---

TEST(roles_are_those_of_all_principals_together) {
  const RoleTable table({{"dns:a", only(Role::kScore)}, {"dns:b", Role::kRead | Role::kWrite}, {"cn:c", only(Role::kAdmin)}});
  CHECK_EQ(table.roles_of(peer({"dns:a"})), only(Role::kScore));
  CHECK_EQ(table.roles_of(peer({"dns:z", "dns:b", "dns:a"})), (Role::kScore | Role::kRead) | (only(Role::kWrite)));
  for (const char* other : {"", "a", "dns:A", "dns:", "dns:a ", "cn:a", "dns:ab"}) CHECK_EQ(table.roles_of(peer({other})), 0);
  CHECK_EQ(table.roles_of(peer({})), 0);
  CHECK_EQ(table.roles_of(peer({std::string("dns:a\0", 6)})), 0);
  CHECK_EQ(RoleTable({}).roles_of(peer({"dns:a"})), 0);
}

TEST(a_row_may_stand_twice_and_gives_no_roles_that_are_none) {
  const RoleTable table({{"dns:a", only(Role::kScore)}, {"dns:a", only(Role::kRead)}, {"dns:b", 0xff}});
  CHECK_EQ(table.roles_of(peer({"dns:a"})), Role::kScore | Role::kRead);
  CHECK_EQ(table.roles_of(peer({"dns:b"})), (Role::kScore | Role::kRead) | (Role::kWrite | Role::kAdmin));
}

TEST(a_certificate_that_has_expired_since_is_none) {
  constexpr char kScore[] = "/assay.v1.ScoringService/Score";
  const RoleTable table({{"dns:a", only(Role::kScore)}});
  const auto ask = [&](const PeerIdentity& identity, int64_t now_s) {
    return check_access(Listener::kPublic, kScore, table.caller_of(identity, now_s));
  };
  CHECK(ask(peer({"dns:a"}, 1000), 999) == Code::kOk);
  CHECK(ask(peer({"dns:a"}, 1000), 1000) == Code::kMissingCertificate);
  CHECK(ask(peer({"dns:b"}, 1000), 999) == Code::kMissingRole);
  CHECK(ask(peer({}, 1000), 999) == Code::kMissingRole);
  CHECK(ask(PeerIdentity(), 999) == Code::kMissingCertificate);
  const Caller caller = table.caller_of(peer({"dns:a"}, 1000), 1000);
  CHECK(caller.needs_certificate && !caller.has_certificate && caller.roles == 0);
}

ASSAY_TEST_MAIN
