//! An authority and a certificate of `localhost`, made for one test.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

pub(super) struct Identity {
    /// PEM.
    pub(super) authority: Vec<u8>,
    pub(super) certificate: X509,
    pub(super) key: PKey<Private>,
}

impl Identity {
    pub(super) fn make() -> Self {
        let (authority_key, key) = (new_key(), new_key());
        let mut authority = builder("double of an authority", &authority_key);
        authority.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        authority.append_extension(KeyUsage::new().critical().key_cert_sign().build().unwrap()).unwrap();
        authority.sign(&authority_key, MessageDigest::sha256()).unwrap();
        let authority = authority.build();
        let mut leaf = builder("localhost", &key);
        leaf.set_issuer_name(authority.subject_name()).unwrap();
        leaf.append_extension(BasicConstraints::new().build().unwrap()).unwrap();
        leaf.append_extension(ExtendedKeyUsage::new().server_auth().build().unwrap()).unwrap();
        let names = SubjectAlternativeName::new()
            .dns("localhost")
            .ip("127.0.0.1")
            .build(&leaf.x509v3_context(Some(&authority), None))
            .unwrap();
        leaf.append_extension(names).unwrap();
        leaf.sign(&authority_key, MessageDigest::sha256()).unwrap();
        Self { authority: authority.to_pem().unwrap(), certificate: leaf.build(), key }
    }
}

fn new_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap()
}

fn builder(name: &str, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::MAYBE_ZERO, false).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder
}
