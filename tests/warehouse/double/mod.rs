//! A double of Snowflake's services, as far as their public documentation tells of them: signed tokens, Named Channels of Snowpipe Streaming over
//! REST, and statements over the SQL API. HTTPS, with an authority made for the test; faults are dealt by a seed. It outlives the programs that
//! are killed against it, and remembers all that they wrote.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: a panic is the failure report")]

mod certificate;
mod http;
mod sql;
mod streaming;

use http::{Reply, Request};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::sign::Verifier;
use openssl::{base64, symm::Cipher};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use streaming::Channels;

pub(crate) const ACCOUNT: &str = "acme-eu";
pub(crate) const USER: &str = "sync";
pub(crate) const PASSPHRASE: &str = "open sesame";

/// How often what goes wrong, in percent of the requests that it can happen to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Begins a burst of answers that it is too busy: 503 or 429.
    pub(crate) busy: u64,
    /// The connection is cut when all was done, rows kept or statement run.
    pub(crate) lost: u64,
    /// A repeat of rows that were kept is answered as stale, not as the first time.
    pub(crate) late: u64,
    /// The channel has gone on to another writer.
    pub(crate) stale: u64,
    /// All tokens of the host that takes rows end.
    pub(crate) expired: u64,
    /// Rows that are not committed yet go, and connections are cut.
    pub(crate) restart: u64,
    /// Rows are committed up to so many milliseconds after they were taken.
    pub(crate) commit_ms: u64,
}

pub(crate) struct State {
    pub(crate) faults: Faults,
    dice: u64,
    busy_for: u64,
    /// What of each fault was dealt.
    pub(crate) dealt: BTreeMap<&'static str, u64>,
    /// Seconds that its clock is ahead.
    pub(crate) clock_ahead_s: i64,
    pub(crate) host: String,
    tokens: BTreeSet<String>,
    /// Nobody has come with the newest token yet: it holds for once at least.
    is_fresh: bool,
    pub(crate) channels: Channels,
    pub(crate) sql: sql::Sql,
    /// The paths of all requests.
    pub(crate) asked: Vec<String>,
    public_key: Vec<u8>,
    issued: u64,
}

pub(crate) struct Double {
    state: Arc<Mutex<State>>,
    /// Of the account.
    pub(crate) url: String,
    pub(crate) port: u16,
    directory: tempfile::TempDir,
    key: PKey<Private>,
    server: http::Server,
}

impl Double {
    pub(crate) fn start(seed: u64) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), PASSPHRASE.as_bytes()).unwrap();
        std::fs::write(directory.path().join("key.p8"), encrypted).unwrap();
        let identity = certificate::Identity::make();
        std::fs::write(directory.path().join("ca.pem"), &identity.authority).unwrap();
        let state = State {
            faults: Faults::default(),
            dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            busy_for: 0,
            dealt: BTreeMap::new(),
            clock_ahead_s: 0,
            host: "localhost".to_owned(),
            tokens: BTreeSet::new(),
            is_fresh: false,
            channels: Channels::default(),
            sql: sql::Sql::default(),
            asked: Vec::new(),
            public_key: key.public_key_to_der().unwrap(),
            issued: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let handler = state.clone();
        let server = http::Server::start(&identity, move |request| lock(&handler).answer(request));
        Self { state, url: format!("https://localhost:{}", server.port), port: server.port, directory, key, server }
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut lock(&self.state))
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Encrypted with `PASSPHRASE`.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.path().join("key.p8")
    }

    pub(crate) fn key_in_clear(&self) -> String {
        String::from_utf8(self.key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }

    /// Rows of a table that are committed, in the order of their channels.
    pub(crate) fn rows(&self, database: &str, table: &str) -> Vec<Value> {
        self.with(|state| state.channels.rows(database, table))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn draw(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % below
    }

    /// Whether this fault happens now.
    fn deals(&mut self, name: &'static str, percent: u64) -> bool {
        let happens = percent > 0 && self.draw(100) < percent;
        if happens {
            *self.dealt.entry(name).or_default() += 1;
        }
        happens
    }

    fn now_s(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + self.clock_ahead_s
    }

    fn answer(&mut self, request: &Request) -> Reply {
        self.asked.push(format!("{} /{}", request.method, request.path.join("/")));
        let mut reply = self.answer_once(request);
        let date = chrono::DateTime::from_timestamp(self.now_s(), 0).unwrap().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        reply.headers.push(("Date", date));
        reply
    }

    fn answer_once(&mut self, request: &Request) -> Reply {
        if self.busy_for == 0 && self.deals("busy", self.faults.busy) {
            self.busy_for = 1 + self.draw(3);
        }
        if self.busy_for > 0 {
            self.busy_for -= 1;
            return if self.draw(2) == 0 {
                Reply::error(503, "ERR_GENERAL_EXCEPTION_RETRY_REQUEST", "busy")
            } else {
                Reply::error(429, "", "slower")
            };
        }
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match (request.method.as_str(), path.as_slice()) {
            (_, ["v2", "streaming", "hostname"]) => self.signed(request).unwrap_or_else(|| Reply::text(&self.host)),
            ("POST", ["oauth", "token"]) => self.signed(request).unwrap_or_else(|| self.token(request)),
            (_, ["api", "v2", "statements", ..]) => self.signed(request).unwrap_or_else(|| self.statement(request)),
            (_, ["v2", "streaming", ..]) => self.scoped(request).unwrap_or_else(|| self.streaming(request)),
            _ => Reply::error(404, "", "no such place"),
        }
    }

    /// Why the request is not from whom it says, if so.
    fn signed(&self, request: &Request) -> Option<Reply> {
        let token = request.bearer();
        let problem = (|| {
            let (signed, signature) = token.rsplit_once('.').ok_or("no token".to_owned())?;
            let (_, claims) = signed.split_once('.').ok_or("no claims".to_owned())?;
            let key = PKey::public_key_from_der(&self.public_key).unwrap();
            let mut verifier = Verifier::new(MessageDigest::sha256(), &key).unwrap();
            if !verifier.verify_oneshot(&decoded(signature), signed.as_bytes()).unwrap_or(false) {
                return Err("JWT token is invalid. [394306]".to_owned());
            }
            let claims: Value = serde_json::from_slice(&decoded(claims)).map_err(|_| "no claims".to_owned())?;
            let subject = format!("{}.{}", ACCOUNT.to_uppercase(), USER.to_uppercase());
            let issuer = format!("{subject}.SHA256:{}", base64::encode_block(&sha256(&self.public_key)));
            if claims["iss"] != issuer.as_str() || claims["sub"] != subject.as_str() {
                return Err(format!("JWT token is invalid. [394304] {}", claims["iss"]));
            }
            // The vendor's own client gives milliseconds.
            let second = |name: &str| claims[name].as_i64().map(|it| if it > 100_000_000_000 { it / 1_000 } else { it });
            let (now, issued, expires) = (self.now_s(), second("iat").unwrap_or(0), second("exp").unwrap_or(0));
            if (now - issued).abs() > 60 || expires <= now || expires - issued > 3_600 {
                return Err(format!("JWT token is invalid. [394302] now {now}, issued {issued}, expires {expires}"));
            }
            Ok(())
        })();
        problem.err().map(|message| Reply::error(401, "390144", &message))
    }

    fn token(&mut self, request: &Request) -> Reply {
        let form = http::fields(&String::from_utf8_lossy(&request.body));
        if form.get("grant_type").map(String::as_str) != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
            return Reply::error(400, "invalid_grant", "another grant type");
        }
        if form.get("scope").is_none_or(|scope| !scope.starts_with(&self.host)) {
            return Reply::error(400, "invalid_scope", "another host");
        }
        self.issued += 1;
        let drawn = self.draw(u64::MAX);
        // Of the vendor's form, whose client looks when it ends; nobody but us reads more of it.
        let claims = json!({ "jti": format!("{}-{drawn}", self.issued), "exp": self.now_s() + 3_600, "iat": self.now_s() });
        let part = |value: &Value| {
            base64::encode_block(value.to_string().as_bytes()).trim_end_matches('=').replace('+', "-").replace('/', "_")
        };
        let token = format!("{}.{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT" })), part(&claims), part(&json!("double")));
        self.tokens.insert(token.clone());
        self.is_fresh = true;
        Reply::text(&token)
    }

    /// Why the request is not let in, if so.
    fn scoped(&mut self, request: &Request) -> Option<Reply> {
        if !self.is_fresh && self.deals("expired", self.faults.expired) {
            self.tokens.clear();
        }
        self.is_fresh = false;
        (!self.tokens.contains(request.bearer())).then(|| Reply::error(401, "390318", "the token has expired"))
    }
}

fn decoded(part: &str) -> Vec<u8> {
    let padded = part.replace('-', "+").replace('_', "/") + &"=".repeat((4 - part.len() % 4) % 4);
    base64::decode_block(&padded).unwrap_or_default()
}
