//! The admin port: whether this instance lives and is ready, and its metrics, over HTTP.
//!
//! Owns one thread with a small async runtime; the task loops stay synchronous and never wait for a client. Reads `Status`
//! and the metrics, changes nothing. Neighbours: `runtime::status` below, the command line above.
//!
//! `/livez` is 503 when only a restart helps, `/readyz` while this instance cannot serve (both say why, as JSON), `/metrics`
//! is Prometheus text, `/` lists these.

use crate::runtime::status::{Report, Status};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;

/// How often collected metrics are folded together, so that they do not pile up when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

const INDEX: &str = "smartrouter\n\n\
    /livez    200 while the process works, 503 when only a restart helps\n\
    /readyz   200 when this instance serves, 503 with the reasons when not\n\
    /metrics  Prometheus text\n";

#[derive(Debug, Error)]
pub enum ApiError {
    #[error("admin address {addr:?} cannot be used: {source}; choose another with --admin-addr HOST:PORT")]
    Bind { addr: String, source: std::io::Error },
    #[error("the admin server cannot start: {0}")]
    Start(std::io::Error),
}

/// The running admin server; ends when dropped.
#[derive(Debug)]
pub struct AdminServer {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    status: Arc<Status>,
    metrics: PrometheusHandle,
}

impl AdminServer {
    /// Listens on `addr` (`HOST:PORT`; port 0 takes a free one) until dropped.
    pub fn start(addr: &str, status: Arc<Status>, metrics: PrometheusHandle) -> Result<Self, ApiError> {
        let refused = |source| ApiError::Bind { addr: addr.to_owned(), source };
        let candidates: Vec<SocketAddr> = addr.to_socket_addrs().map_err(refused)?.collect();
        let listener = TcpListener::bind(candidates.as_slice()).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ApiError::Start)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, Shared { status, metrics }, stopped)) {
                    tracing::error!(%error, "the admin server ended");
                }
            })
            .map_err(ApiError::Start)?;
        Ok(Self { addr: bound, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // Both may fail only when the thread has ended already, which is what is wanted.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves until told to stop. Connections still open then are cut: a probe that hangs must not keep the process.
async fn serve(listener: TcpListener, shared: Shared, stopped: oneshot::Receiver<()>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let upkeep = shared.metrics.clone();
    let routes = Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared);
    tokio::select! {
        ended = axum::serve(listener, routes) => ended,
        () = keep_up(upkeep) => Ok(()),
        _ = stopped => Ok(()),
    }
}

async fn keep_up(metrics: PrometheusHandle) {
    let mut turns = tokio::time::interval(UPKEEP);
    loop {
        turns.tick().await;
        metrics.run_upkeep();
    }
}

async fn livez(State(shared): State<Shared>) -> (StatusCode, Json<Report>) {
    let report = shared.status.report();
    (code(report.live), Json(report))
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, Json<Report>) {
    let report = shared.status.report();
    (code(report.ready), Json(report))
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.metrics.render())
}

fn code(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::status::{Phase, TaskState};
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// A request by hand: status code and body.
    fn ask(addr: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(addr).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn server() -> (AdminServer, Arc<Status>) {
        let status = Arc::new(Status::new(Duration::from_secs(3_600)));
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        (AdminServer::start("127.0.0.1:0", Arc::clone(&status), metrics).unwrap(), status)
    }

    #[test]
    fn readiness_follows_the_status_and_says_why() {
        let (server, status) = server();
        let (code, body) = ask(server.addr(), "/readyz");
        assert_eq!(code, 503);
        assert!(body.contains("starting"), "{body}");
        status.add_group("tasks-0");
        status.set_phase(Phase::Running);
        status.assigned("tasks-0", &["payment-0".to_owned()]);
        assert!(ask(server.addr(), "/readyz").1.contains("payment-0: restoring"));
        status.set_task("tasks-0", "payment-0", TaskState::Running);
        let (code, body) = ask(server.addr(), "/readyz");
        assert_eq!(code, 200, "{body}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["ready"], true);
        assert_eq!(ask(server.addr(), "/livez").0, 200);
    }

    #[test]
    fn the_other_pages() {
        let (server, _) = server();
        assert_eq!(ask(server.addr(), "/metrics").0, 200);
        assert!(ask(server.addr(), "/").1.contains("/readyz"));
        assert_eq!(ask(server.addr(), "/nothing").0, 404);
    }

    #[test]
    fn a_taken_port_is_named_and_a_dropped_server_frees_it() {
        let (first, _) = server();
        let addr = first.addr().to_string();
        let again = || {
            let status = Arc::new(Status::new(Duration::from_secs(1)));
            AdminServer::start(&addr, status, PrometheusBuilder::new().build_recorder().handle())
        };
        let error = again().unwrap_err().to_string();
        assert!(error.contains(&addr) && error.contains("--admin-addr"), "{error}");
        drop(first);
        assert_eq!(again().unwrap().addr().to_string(), addr);
    }
}
