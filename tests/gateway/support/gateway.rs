//! The gateway as a process, with a configuration of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use scopegate::store::Store;
use serde_json::Value;

use super::http::{Response, form, request, send, send_if_possible};
use super::{
    Redis, SECRET, Upstream, free_addresses, on_redis, over_library, replace, secret_digest,
    wait_for,
};

/// The text of a configuration. `@UPSTREAM@`, `@SHA256@` and the like are filled in.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub policies: String,
    pub clients: String,
    pub users: String,
    /// Further keys of gateway.yaml.
    pub gateway: String,
    pub environment: Vec<(String, String)>,
    /// Further files, by name.
    pub files: Vec<(String, String)>,
    /// Further arguments of `serve`.
    pub arguments: Vec<String>,
}

impl Setup {
    pub fn new(policies: &str, clients: &str) -> Self {
        Self {
            policies: policies.to_owned(),
            clients: clients.to_owned(),
            users: "users: {}\n".to_owned(),
            ..Self::default()
        }
    }

    /// Writes the files into a folder.
    pub fn write(
        &self,
        folder: &Path,
        address: SocketAddr,
        metrics: SocketAddr,
        upstream: SocketAddr,
    ) -> PathBuf {
        let fill = |text: &str| {
            text.replace("@UPSTREAM@", &format!("http://{upstream}"))
                .replace("@SHA256@", &secret_digest())
                .replace("@LISTEN@", &address.to_string())
        };
        let public_url = format!("public_url: http://127.0.0.1:{}\n", address.port());
        let mut gateway = format!(
            "metrics: {{ address: \"{metrics}\" }}\n\
             policies: policies.yaml\nusers: users.yaml\n"
        );
        let log =
            format!("decision_log: {{ file: \"{}\" }}\n", folder.join("decisions.jsonl").display());
        let store =
            format!("store: {{ embedded: {{ path: \"{}\" }} }}\n", folder.join("data").display());
        let listeners = format!("listeners: [{{ address: \"{address}\" }}]\n");
        for (key, default) in [
            ("clients", "clients: clients.yaml\n"),
            ("listeners", listeners.as_str()),
            ("public_url", public_url.as_str()),
            ("store", store.as_str()),
            ("decision_log", log.as_str()),
            ("authorization_server", "authorization_server: { grants: [client_credentials] }\n"),
            ("upstreams", "upstreams: { api: { servers: [\"@UPSTREAM@\"] } }\n"),
        ] {
            if !self.gateway.lines().any(|line| line.starts_with(key)) {
                gateway.push_str(default);
            }
        }
        gateway.push_str(&self.gateway);
        for (name, text) in [
            ("gateway.yaml", gateway.as_str()),
            ("policies.yaml", &self.policies),
            ("clients.yaml", &self.clients),
            ("users.yaml", &self.users),
        ] {
            std::fs::write(folder.join(name), fill(text)).unwrap();
        }
        for (name, text) in &self.files {
            let file = folder.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, fill(text)).unwrap();
        }
        folder.join("gateway.yaml")
    }
}

/// A running gateway; killed when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    pub metrics: SocketAddr,
    pub upstream: Upstream,
    pub folder: tempfile::TempDir,
    child: Child,
    /// The shared store, where the tests run over one.
    pub redis: Option<Arc<Redis>>,
}

impl Gateway {
    pub fn start(setup: &Setup) -> Self {
        Self::start_with(setup, Upstream::start())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "the gateway keeps its upstream; callers hand it over"
    )]
    pub fn start_with(setup: &Setup, upstream: Upstream) -> Self {
        // Another process may take a free port between our look and the gateway's: try again with
        // others.
        for _ in 0..5 {
            let mut gateway = Self::spawn(setup, &upstream);
            if gateway.wait_until_ready() {
                return gateway;
            }
            let log = gateway.log();
            assert!(log.contains("in use"), "the gateway did not start:\n{log}");
        }
        panic!("five addresses in a row were taken");
    }

    fn spawn(setup: &Setup, upstream: &Upstream) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [address, metrics] = free_addresses();
        let own_store = setup.gateway.lines().any(|line| line.starts_with("store"));
        let redis = (on_redis() && !own_store).then(|| Arc::new(Redis::start()));
        let mut setup = setup.clone();
        if let Some(redis) = &redis {
            setup.gateway.push_str(&Redis::yaml());
            setup.files.extend(redis.files());
        }
        let file = setup.write(folder.path(), address, metrics, upstream.address);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["serve", "--config"])
            .arg(&file)
            .args(&setup.arguments)
            .args(over_library().then_some("--library-loop"))
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { address, metrics, upstream: upstream.clone(), folder, child, redis }
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills the process and starts another over the same files.
    pub fn restart(&mut self) {
        self.kill();
        self.child = self.start_again(&["serve"]);
        assert!(self.wait_until_ready(), "{}", self.log());
    }

    /// Starts a successor over the same files, which takes over; the process before it, still to be
    /// waited for.
    pub fn upgrade(&mut self) -> Child {
        let successor = self.start_again(&["serve", "--upgrade"]);
        std::mem::replace(&mut self.child, successor)
    }

    /// Another process over the same files and the same log.
    fn start_again(&self, arguments: &[&str]) -> Child {
        let log =
            std::fs::OpenOptions::new().append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_scopegate"));
        command.args(arguments).arg("--config").arg(self.folder.path().join("gateway.yaml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn wait_until_ready(&mut self) -> bool {
        wait_for("the gateway to listen", || {
            if self.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let ready = send_if_possible(
                self.metrics,
                "GET /readyz HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n",
            );
            ready.is_some_and(|response| !response.body.starts_with("starting")).then_some(true)
        })
    }

    /// What it wrote to its own log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until a line of its own log has these words: a thread of its own writes them, after
    /// the fact. Gives the line.
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        wait_for(&format!("{words:?} in the log"), || {
            let log = self.log();
            log.lines()
                .find(|line| words.iter().all(|words| line.contains(words)))
                .map(str::to_owned)
        })
    }

    /// Its store, opened next to it.
    pub fn store(&self) -> Store {
        match &self.redis {
            Some(redis) => Store::of(&redis.config()).unwrap(),
            None => Store::open(&self.folder.path().join("data")).unwrap(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &self.pid().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the process to end; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        wait_for("the gateway to end", || self.child.try_wait().unwrap()).code()
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        send(self.address, bytes)
    }

    pub fn get(&self, target: &str, token: Option<&str>) -> Response {
        self.call("GET", target, token)
    }

    pub fn call(&self, method: &str, target: &str, token: Option<&str>) -> Response {
        self.send(request(method, target, token, &[]))
    }

    /// A token response for a client of the tests.
    pub fn token_response(&self, client: &str, extra: &str) -> Response {
        let basic = format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(format!("{client}:{SECRET}"))
        );
        self.send(form(
            "/oauth_token.do",
            &[("Authorization", &basic)],
            &format!("grant_type=client_credentials{extra}"),
        ))
    }

    /// A token with all that the client holds.
    pub fn token(&self, client: &str) -> String {
        let response = self.token_response(client, "");
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// Replaces a file of the configuration.
    pub fn rewrite(&self, name: &str, text: &str) {
        replace(&self.folder.path().join(name), &text.replace("@SHA256@", &secret_digest()));
    }

    /// Reloads, and waits until the load has been taken or refused.
    pub fn reload(&self) -> bool {
        let before = self.log().lines().count();
        self.signal("HUP");
        wait_for("the reload", || {
            let log = self.log();
            let new: Vec<&str> = log.lines().skip(before).collect();
            if new.iter().any(|line| line.contains("configuration in force")) {
                return Some(true);
            }
            new.iter().any(|line| line.contains("configuration refused")).then_some(false)
        })
    }

    /// Asks the metrics listener.
    pub fn get_metrics(&self, target: &str) -> Response {
        send(self.metrics, format!("GET {target} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"))
    }

    pub fn metrics_text(&self) -> String {
        send(self.metrics, "GET /metrics HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").body
    }

    /// The value of a series, by the start of its line.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics_text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// The decision record with this id, once it is written.
    pub fn record(&self, id: &str) -> Value {
        wait_for("the decision record", || {
            let text = std::fs::read_to_string(self.folder.path().join("decisions.jsonl")).ok()?;
            let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            records.into_iter().find(|record| record["id"] == id)
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            super::records::check(&self.folder.path().join("decisions.jsonl"));
        }
    }
}
