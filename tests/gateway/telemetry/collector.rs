//! A collector of OpenTelemetry that nobody here wrote: over gRPC the services as they are
//! generated, over HTTP a server that decodes what it gets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::support::tls::Pair;
use crate::support::{Upstream, wait_for};

/// The answer of a collector over HTTP that has taken everything.
pub const TAKEN: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

/// A collector.
pub struct Collector {
    pub url: String,
    kind: Kind,
}

enum Kind {
    Grpc(Services, tokio::runtime::Runtime),
    Http(Upstream),
}

/// What both services over gRPC share.
#[derive(Clone, Default)]
struct Services(Arc<Mutex<Got>>);

#[derive(Default)]
struct Got {
    traces: Vec<ExportTraceServiceRequest>,
    logs: Vec<ExportLogsServiceRequest>,
    /// The fields of every request.
    fields: Vec<http::HeaderMap>,
    /// What the next requests are refused with.
    refusals: Vec<Status>,
}

impl Services {
    fn take<T>(&self, request: Request<T>, keep: impl FnOnce(&mut Got, T)) -> Result<(), Status> {
        let mut got = self.0.lock().unwrap();
        got.fields.push(request.metadata().clone().into_headers());
        if let Some(status) = got.refusals.pop() {
            return Err(status);
        }
        keep(&mut got, request.into_inner());
        Ok(())
    }
}

#[tonic::async_trait]
impl TraceService for Services {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take(request, |got, message| got.traces.push(message))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Services {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.take(request, |got, message| got.logs.push(message))?;
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl Collector {
    pub fn grpc() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let services = Services::default();
        let (traces, logs) = (services.clone(), services.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(TraceServiceServer::new(traces))
                .add_service(LogsServiceServer::new(logs))
                .serve_with_incoming(incoming),
        );
        Self { url, kind: Kind::Grpc(services, runtime) }
    }

    pub fn http() -> Self {
        let upstream = Upstream::start();
        upstream.answer(TAKEN);
        Self { url: format!("http://{}", upstream.address), kind: Kind::Http(upstream) }
    }

    /// One of gRPC behind TLS, by the name `collector.example` on this machine.
    pub fn behind_tls(mut self, pair: &Pair) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let Kind::Grpc(_, runtime) = &self.kind else { panic!("TLS is put before gRPC") };
        let plain: SocketAddr = self.url.strip_prefix("http://").unwrap().parse().unwrap();
        let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
        let chain = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        self.url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut plain = tokio::net::TcpStream::connect(plain).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        self
    }

    /// What the YAML says of it, with more keys.
    pub fn yaml(&self, more: &str) -> String {
        let protocol = match self.kind {
            Kind::Grpc(..) => "grpc",
            Kind::Http(_) => "http",
        };
        let url = &self.url;
        format!("telemetry: {{ otlp: {{ endpoint: '{url}', protocol: {protocol}, {more} }} }}\n")
    }

    /// Refuses the next request so, over gRPC.
    pub fn refuse(&self, status: Status) {
        let Kind::Grpc(services, _) = &self.kind else { panic!("a status of gRPC") };
        services.0.lock().unwrap().refusals.push(status);
    }

    /// Answers this from now on, over HTTP.
    pub fn answer(&self, answer: &str) {
        let Kind::Http(upstream) = &self.kind else { panic!("an answer over HTTP") };
        upstream.answer(answer);
    }

    /// How often something was sent.
    pub fn attempts(&self) -> usize {
        match &self.kind {
            Kind::Grpc(services, _) => services.0.lock().unwrap().fields.len(),
            Kind::Http(upstream) => upstream.raw_requests().len(),
        }
    }

    /// The values of a field in all requests.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let Kind::Grpc(services, _) = &self.kind else { panic!("fields of gRPC") };
        let got = services.0.lock().unwrap();
        let values = got.fields.iter().flat_map(|fields| fields.get_all(name));
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    fn messages<T: Message + Default>(upstream: &Upstream, path: &str) -> Vec<T> {
        let requests = upstream.raw_requests();
        let of_path = requests.iter().filter_map(|request| {
            let end = request.windows(4).position(|window| window == b"\r\n\r\n")?;
            let (head, body) = request.split_at(end + 4);
            let head = std::str::from_utf8(head).unwrap().to_ascii_lowercase();
            assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
            head.starts_with(&format!("post {path} ")).then(|| T::decode(body).unwrap())
        });
        of_path.collect()
    }

    fn traces(&self) -> Vec<ExportTraceServiceRequest> {
        match &self.kind {
            Kind::Grpc(services, _) => services.0.lock().unwrap().traces.clone(),
            Kind::Http(upstream) => Self::messages(upstream, "/v1/traces"),
        }
    }

    fn logs(&self) -> Vec<ExportLogsServiceRequest> {
        match &self.kind {
            Kind::Grpc(services, _) => services.0.lock().unwrap().logs.clone(),
            Kind::Http(upstream) => Self::messages(upstream, "/v1/logs"),
        }
    }

    pub fn spans(&self) -> Vec<Span> {
        let resources = self.traces().into_iter().flat_map(|message| message.resource_spans);
        resources.flat_map(|of| of.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// The spans of whole requests.
    pub fn servers(&self) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.kind == 2);
        spans
    }

    pub fn log_records(&self) -> Vec<LogRecord> {
        let resources = self.logs().into_iter().flat_map(|message| message.resource_logs);
        resources.flat_map(|of| of.scope_logs).flat_map(|scope| scope.log_records).collect()
    }

    /// The attributes of what all spans come from.
    pub fn resource(&self) -> Vec<(String, String)> {
        let message = self.traces().pop().unwrap();
        texts(&message.resource_spans[0].resource.clone().unwrap().attributes)
    }

    /// The spans of the trace of a decision, once they are there.
    pub fn spans_of(&self, decision: &str) -> Vec<Span> {
        wait_for("the spans", || {
            let spans = self.spans();
            let of = |span: &&Span| text(&span.attributes, "scopegate.decision.id") == decision;
            let trace = spans.iter().find(of)?.trace_id.clone();
            Some(spans.into_iter().filter(|span| span.trace_id == trace).collect())
        })
    }

    /// Everything it has got, as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Grpc(..) => {
                let traces = self.traces().into_iter().flat_map(|it| it.encode_to_vec());
                let logs = self.logs().into_iter().flat_map(|it| it.encode_to_vec());
                traces.chain(logs).collect()
            }
            Kind::Http(upstream) => upstream.raw_requests().concat(),
        }
    }
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some((attribute.key.clone(), text.clone())),
        Value::IntValue(number) => Some((attribute.key.clone(), number.to_string())),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| text(attribute).unwrap()).collect()
}

/// The attributes of a span or log record, but for those that differ from run to run.
pub fn stable(attributes: &[KeyValue]) -> Vec<(String, String)> {
    const CHANGING: [&str; 3] = ["scopegate.decision.id", "scopegate.set", "server.port"];
    let mut texts = texts(attributes);
    texts.retain(|(key, _)| !CHANGING.contains(&key.as_str()));
    texts
}

/// The value of an attribute; empty where there is none.
pub fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = texts(attributes).into_iter().find(|(found, _)| found == key);
    found.map(|(_, value)| value).unwrap_or_default()
}
