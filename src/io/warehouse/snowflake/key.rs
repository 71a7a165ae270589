//! Who we are: an RSA key pair, and the signed tokens (JWT, RS256) that prove it.
//!
//! Owns the private key, which leaves this module in no form. A token is signed anew for each use: none is ever near its expiry.

use super::SnowflakeError;
use openssl::base64;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};
use openssl::sha::sha256;
use openssl::sign::Signer;
use serde_json::json;
use std::fs;
use std::path::Path;

const LIFETIME_S: u64 = 300;
/// What the vendor takes at least.
const BITS_MIN: u32 = 2_048;

pub(super) struct KeyPair {
    key: PKey<Private>,
    /// `ACCOUNT.USER`.
    subject: String,
    /// The subject, and the fingerprint of the public key.
    issuer: String,
}

impl KeyPair {
    pub(super) fn read(file: &Path, passphrase: Option<&str>, account: &str, user: &str) -> Result<Self, SnowflakeError> {
        let wrong = |problem: String| SnowflakeError::Setting { key: "private_key_file", problem };
        let pem = fs::read(file).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
        let key = decode(&pem, passphrase).map_err(|problem| wrong(format!("{}: {problem}", file.display())))?;
        let public = key.public_key_to_der().map_err(|_| wrong(format!("{}: has no public key", file.display())))?;
        let subject = format!("{}.{}", name_in_tokens(account), user.to_uppercase());
        let issuer = format!("{subject}.SHA256:{}", base64::encode_block(&sha256(&public)));
        Ok(Self { key, subject, issuer })
    }

    /// Says who asks, at this second since 1970.
    pub(super) fn sign(&self, now_s: u64) -> Result<String, SnowflakeError> {
        let header = json!({ "alg": "RS256", "typ": "JWT" });
        let claims = json!({ "iss": self.issuer, "sub": self.subject, "iat": now_s, "exp": now_s + LIFETIME_S });
        let signed = format!("{}.{}", url_safe(header.to_string().as_bytes()), url_safe(claims.to_string().as_bytes()));
        let signature =
            Signer::new(MessageDigest::sha256(), &self.key).and_then(|mut it| it.sign_oneshot_to_vec(signed.as_bytes()));
        let wrong = |error| SnowflakeError::Setting { key: "private_key_file", problem: format!("cannot sign: {error}") };
        Ok(format!("{signed}.{}", url_safe(&signature.map_err(wrong)?)))
    }
}

fn decode(pem: &[u8], passphrase: Option<&str>) -> Result<PKey<Private>, &'static str> {
    let mut asked = false;
    // Always with an answer of ours: without one OpenSSL would ask at the terminal.
    let read = PKey::private_key_from_pem_callback(pem, |answer| {
        asked = true;
        let given = passphrase.unwrap_or_default().as_bytes();
        let length = given.len().min(answer.len());
        answer[..length].copy_from_slice(&given[..length]);
        Ok(length)
    });
    let key = read.map_err(|_| match (asked, passphrase) {
        (true, None) => "is encrypted; give warehouse.snowflake.private_key_passphrase",
        (true, Some(_)) => "cannot be decrypted: warehouse.snowflake.private_key_passphrase is another one",
        (false, _) => "is no private key in PEM form (openssl genrsa 2048 | openssl pkcs8 -topk8 -inform PEM)",
    })?;
    if key.id() == Id::RSA && key.bits() >= BITS_MIN { Ok(key) } else { Err("is no RSA key of 2048 bits or more") }
}

/// The account without region and cloud, in capitals.
fn name_in_tokens(account: &str) -> String {
    account.split('.').next().unwrap_or_default().to_uppercase()
}

fn url_safe(bytes: &[u8]) -> String {
    base64::encode_block(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::rsa::Rsa;
    use openssl::sign::Verifier;
    use openssl::symm::Cipher;

    fn written(pem: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), pem).unwrap();
        file
    }

    fn refused(pem: &[u8], passphrase: Option<&str>) -> String {
        KeyPair::read(written(pem).path(), passphrase, "acme", "sync").err().unwrap().to_string()
    }

    fn decoded(part: &str) -> Vec<u8> {
        let padded = part.replace('-', "+").replace('_', "/") + &"=".repeat((4 - part.len() % 4) % 4);
        base64::decode_block(&padded).unwrap()
    }

    #[test]
    fn a_token_names_account_user_and_key_and_is_signed_with_it() {
        let key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
        let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"hush").unwrap();
        let pair = KeyPair::read(written(&encrypted).path(), Some("hush"), "acme-eu.eu-central-1", "sync").unwrap();
        let token = pair.sign(1_000).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let claims: serde_json::Value = serde_json::from_slice(&decoded(parts[1])).unwrap();
        let fingerprint = base64::encode_block(&sha256(&key.public_key_to_der().unwrap()));
        assert_eq!(claims["iss"], format!("ACME-EU.SYNC.SHA256:{fingerprint}"));
        assert_eq!((&claims["sub"], &claims["iat"], &claims["exp"]), (&json!("ACME-EU.SYNC"), &json!(1_000), &json!(1_300)));
        let mut verifier = Verifier::new(MessageDigest::sha256(), &key).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        assert!(verifier.verify_oneshot(&decoded(parts[2]), signed.as_bytes()).unwrap());
    }

    #[test]
    fn keys_that_cannot_be_used_say_why_and_never_what_they_are() {
        let key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
        let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"hush").unwrap();
        assert!(refused(&encrypted, None).contains("is encrypted"));
        let other = refused(&encrypted, Some("hash"));
        assert!(other.contains("is another one") && !other.contains("hash"), "{other}");
        assert!(refused(b"-----BEGIN", None).contains("no private key in PEM form"));
        let short = Rsa::generate(1_024).unwrap().private_key_to_pem().unwrap();
        assert!(refused(&short, None).contains("2048"));
    }
}
