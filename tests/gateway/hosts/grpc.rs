//! Envoy's dialect by a client that is made of Envoy's own messages.

use super::decider;
use crate::clients::{installed, run};

#[test]
fn a_client_of_envoys_own_messages_is_answered_in_them() {
    let decider = decider("envoy");
    let (app, other) = (decider.gateway.token("app"), decider.gateway.token("other"));
    let decide = decider.decide.to_string();
    let python = installed().join("venv/bin/python");
    let extra = [("DECIDE", decide.as_str()), ("TOKEN", &app), ("OTHER", &other)];
    run(&decider.gateway, &python, "ext_authz.py", &extra);
    // It only asked.
    assert!(decider.upstream.requests().is_empty());
}
