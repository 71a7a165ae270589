//! HTTP/1.1 over TLS, as much of it as the clients need: bodies with a length or in chunks, connections that stay.

use super::certificate::Identity;
use openssl::ssl::{SslAcceptor, SslMethod};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// Decoded, part by part.
    pub(super) path: Vec<String>,
    pub(super) query: BTreeMap<String, String>,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(super) fn bearer(&self) -> &str {
        self.header("authorization").strip_prefix("Bearer ").unwrap_or_default()
    }

    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Nothing of it arrives.
    pub(super) is_lost: bool,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), is_lost: false }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self {
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: body.to_string().into_bytes(),
            ..Self::new(200)
        }
    }

    pub(super) fn text(body: &str) -> Self {
        Self { headers: vec![("Content-Type", "text/plain".to_owned())], body: body.as_bytes().to_vec(), ..Self::new(200) }
    }

    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self { status, ..Self::json(&json!({ "code": code, "message": message })) }
    }

    pub(super) fn lost() -> Self {
        Self { is_lost: true, ..Self::new(200) }
    }
}

pub(super) struct Server {
    pub(super) port: u16,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn start(identity: &Identity, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&identity.key).unwrap();
        acceptor.set_certificate(&identity.certificate).unwrap();
        let (acceptor, answer) = (Arc::new(acceptor.build()), Arc::new(answer));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, stop) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), acceptor, answer) = (stream, acceptor.clone(), answer.clone()) else { continue };
                thread::spawn(move || serve(stream, &acceptor, answer.as_ref()));
            }
        });
        Self { port, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Until the client goes, or is cut off.
fn serve(stream: TcpStream, acceptor: &SslAcceptor, answer: &(impl Fn(&Request) -> Reply + ?Sized)) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream) else { return };
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream) {
        let reply = answer(&request);
        if reply.is_lost {
            return;
        }
        let mut head = format!("HTTP/1.1 {} OK\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
        for (name, value) in &reply.headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let bytes = [head.as_bytes(), &reply.body].concat();
        if stream.get_mut().write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read_request(stream: &mut impl BufRead) -> Option<Request> {
    let first = line(stream)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let line = line(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let body = if headers.get("transfer-encoding").is_some_and(|it| it.contains("chunked")) {
        read_chunks(stream)?
    } else {
        let length = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
        take(stream, length)?
    };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = path.trim_matches('/').split('/').map(decoded).collect();
    Some(Request { method, path, query: fields(query), headers, body })
}

fn line(stream: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

fn take(stream: &mut impl Read, length: usize) -> Option<Vec<u8>> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

fn read_chunks(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(line(stream)?.split(';').next()?, 16).ok()?;
        body.extend(take(stream, length)?);
        line(stream)?;
        if length == 0 {
            return Some(body);
        }
    }
}

/// Of a query or a form.
pub(super) fn fields(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(&value.replace('+', " ")))).collect()
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        let hex = (*first == b'%').then(|| more.get(..2)).flatten();
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
