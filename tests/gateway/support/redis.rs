//! A real Redis, which can be stopped, held up and made to come back.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use scopegate::config::{Secret, SharedStore, StoreConfig, Topology};

use super::{free_addresses, wait_for};

/// The secret that signing keys in it are encrypted with.
pub const ENCRYPTION_KEY: &str = "an-encryption-key-of-at-least-32-characters";

/// One server in a folder of its own; killed when dropped.
pub struct Redis {
    pub port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further arguments of `redis-server`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let [address] = free_addresses();
        Self::start_at(address.port(), arguments)
    }

    /// A node of a cluster: the port 10,000 above its own is free too, where nodes talk.
    pub fn start_node(arguments: &[&str]) -> Self {
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        let port = wait_for("two free ports", || {
            let [address] = free_addresses();
            Some(address.port()).filter(|port| port.checked_add(10_000).is_some_and(is_free))
        });
        Self::start_at(port, arguments)
    }

    fn start_at(port: u16, arguments: &[&str]) -> Self {
        let mut redis = Self {
            port,
            folder: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            child: None,
        };
        redis.resume();
        redis
    }

    /// Starts it (again), with what it had on the disk.
    pub fn resume(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder().join("log"))
            .unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(&self.arguments)
            .current_dir(self.folder())
            .stdout(log)
            .spawn()
            .expect("redis-server, which `make system` installs");
        self.child = Some(child);
        wait_for("redis to listen", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Holds the process up, or lets it go on.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Asks it something.
    pub fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(command)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// `store:` of gateway.yaml; the secrets are files next to it.
    pub fn yaml() -> String {
        "store: { redis: { url: file:redis-url, encryption_key: file:redis-key } }\n".to_owned()
    }

    /// The same for who opens the store himself.
    pub fn config(&self) -> StoreConfig {
        StoreConfig::Shared(SharedStore {
            url: Secret::new(&self.url()),
            encryption_key: Secret::new(ENCRYPTION_KEY),
            topology: Topology::Single,
            ca: None,
            wait_replicas: 0,
        })
    }

    /// Those files.
    pub fn files(&self) -> Vec<(String, String)> {
        vec![("redis-url".into(), self.url()), ("redis-key".into(), ENCRYPTION_KEY.into())]
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
