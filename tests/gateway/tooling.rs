//! What an operator asks of the policies: `test`, `explain`, `diff`, `access`, the lint of `check`,
//! `findings`.

mod compared;
mod edited;
mod explained;
mod found;
mod imported;
mod large;
mod linted;
mod reached;
mod shadowed;
mod tested;
mod worked;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::issuer::{Key, now};
use crate::support::{Setup, free_addresses};

/// The files of a configuration, without a gateway.
pub struct Files(pub tempfile::TempDir);

impl Files {
    pub fn of(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [address, metrics, upstream] = free_addresses();
        setup.write(folder.path(), address, metrics, upstream);
        Self(folder)
    }

    /// Runs a command over them; its exit code, output and complaints.
    pub fn run(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(arguments)
            .args(["--config", "gateway.yaml"])
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    pub fn json(&self, arguments: &[&str], input: &str) -> (i32, Value) {
        let (code, output, complaints) =
            self.run(&[arguments, &["--format", "json"]].concat(), input);
        (
            code,
            serde_json::from_str(&output)
                .unwrap_or_else(|_| panic!("{arguments:?}: {output}{complaints}")),
        )
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }
}

/// The policies of the specification's example.
pub const POLICIES: &str = "apis:
  incident:
    base_path: /api/now
    versions: [v1, v2]
    upstream: api
    resources:
      /table/incident: [GET, POST]
      /table/incident/{sys_id}: [GET, PUT, PATCH, DELETE]
auth_scopes:
  incident_read: { grants: [{ api: incident, methods: [GET] }] }
  incident_write: { grants: [{ api: incident, methods: [POST, PUT, PATCH] }] }
access_policies:
  incident-callers:
    api: incident
    allow:
      - { issuers: [self], clients: [crm-sync], from: [10.20.0.0/16] }
      - { clients: [portal] }
      - { issuers: [corp], roles: { any: [itil] }, claims: { dept: [it] } }
acls:
  - { api: incident, methods: [DELETE], roles: { all: [itil_admin] } }
";

pub const CLIENTS: &str = "clients:
  crm-sync:
    grants: [client_credentials]
    application_user: svc.crm
    secrets: [{ sha256: @SHA256@, expires: 2099-01-01 }]
    auth_scopes: [incident_read, incident_write]
    limit_authorization: [incident]
    enforce_token_restriction: true
    external: { corp: [9a7b-crm] }
  portal:
    grants: [client_credentials]
    secrets: [{ sha256: @SHA256@, expires: 2099-01-01 }]
    auth_scopes: [incident_read]
";

/// The example, with an issuer whose keys are in a file; and its key.
pub fn example(more: &str) -> (Setup, Key) {
    let key = Key::p256("k1");
    let mut setup = Setup::new(&format!("{POLICIES}{more}"), CLIENTS);
    setup.users = "users: { svc.crm: { roles: [itil] } }\n".to_owned();
    setup.gateway = "issuers:\n  corp: { issuer: https://corp.example, audience: \
        [https://api.example.com], \
                     keys: { jwks_file: corp.jwks }, algorithms: [ES256], claims: { client: azp, \
                     scopes: scp, roles: groups }, \
                     roles: { grp-itil: itil } }\n"
        .to_owned();
    setup.files =
        vec![("corp.jwks".to_owned(), serde_json::json!({ "keys": [key.jwk()] }).to_string())];
    (setup, key)
}

/// A token of that issuer.
pub fn corp_token(key: &Key, expires: i64) -> String {
    key.token(&serde_json::json!({
        "iss": "https://corp.example", "sub": "bob", "aud": "https://api.example.com",
            "azp": "9a7b-crm",
        "scp": ["incident_read"], "groups": ["grp-itil"], "dept": "it", "iat": now(),
            "exp": expires,
    }))
}
