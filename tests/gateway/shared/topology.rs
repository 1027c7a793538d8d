//! Sentinel, a cluster, TLS.

use std::process::Command;
use std::time::Duration;

use super::{over, own_token, verdict};
use crate::authorization::{refresh, tokens};
use crate::support::redis::ENCRYPTION_KEY;
use crate::support::{Gateway, Redis, Setup, free_addresses, wait_for};

fn member(response: &crate::support::Response, name: &str) -> String {
    crate::authorization::member(response, name)
}

#[test]
fn after_a_failover_the_new_master_serves_and_nothing_acknowledged_is_lost() {
    let mut master = Redis::start();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    wait_for("the replica", || {
        replica.ask(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
    });
    let [sentinel] = free_addresses();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sentinel.conf");
    let text = format!(
        "port {}\nbind 127.0.0.1\nsentinel monitor gate 127.0.0.1 {} 1\nsentinel \
            down-after-milliseconds gate 500\n\
         sentinel failover-timeout gate 3000\n",
        sentinel.port(),
        master.port
    );
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut child = Command::new("redis-sentinel").arg(&file).stdout(log).spawn().unwrap();
    wait_for("the sentinel", || std::net::TcpStream::connect(sentinel).ok());
    let of_sentinel = |what: &str| {
        let port = sentinel.port().to_string();
        let output = Command::new("redis-cli")
            .args(["-p", &port, "SENTINEL", what, "gate"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    wait_for("the sentinel to know the replica", || {
        of_sentinel("replicas").contains(&replica.port.to_string()).then_some(())
    });

    let mut setup = over(&master);
    setup.gateway = setup.gateway.replace(
        "encryption_key: file:redis-key }",
        &format!(
            "encryption_key: file:redis-key, sentinel: {{ master: gate, nodes: [\"{sentinel}\"] \
                }}, wait_replicas: 1 }}"
        ),
    );
    setup.files[0].1 = "redis://gate".into();
    let gateway = Gateway::start(&setup);
    let opaque: Vec<String> = (0..20).map(|_| own_token(&gateway, "opaque")).collect();
    let (access, refresh_token) = tokens(&gateway, "web");
    let next = member(&refresh(&gateway, "web", &refresh_token), "refresh_token");
    master.kill();
    wait_for("the new master", || {
        replica.ask(&["INFO", "replication"]).contains("role:master").then_some(())
    });
    // Without a replica a write is not acknowledged: what cannot be promised is not given.
    wait_for("the new master to be asked", || {
        (verdict(&gateway, &opaque[0]) == "permit").then_some(())
    });
    for token in &opaque {
        assert_eq!(verdict(&gateway, token), "permit");
    }
    assert_eq!(verdict(&gateway, &access), "permit");
    assert_eq!(
        refresh(&gateway, "web", &next).status,
        503,
        "one replica is asked for, and there is none"
    );
    let second = Redis::start_with(&["--replicaof", "127.0.0.1", &replica.port.to_string()]);
    wait_for("the second replica", || {
        second.ask(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
    });
    wait_for("writes", || own_token_status(&gateway).then_some(()));
    // A used token is known as used: it never reverts.
    let spent = refresh(&gateway, "web", &refresh_token);
    assert_eq!(spent.status, 400, "{spent:?}");
    let _ = child.kill();
    let _ = child.wait();
}

fn own_token_status(gateway: &Gateway) -> bool {
    crate::authorization::token(gateway, "opaque", &[("grant_type", "client_credentials")]).status
        == 200
}

#[test]
fn a_cluster_serves_as_one_server_does() {
    let nodes: Vec<Redis> = (0..3)
        .map(|_| Redis::start_node(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]))
        .collect();
    let addresses: Vec<String> =
        nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let created = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&addresses)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");
    wait_for("the cluster", || {
        nodes
            .iter()
            .all(|node| node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
            .then_some(())
    });
    let mut setup = over(&nodes[0]);
    setup.gateway = setup.gateway.replace(
        "encryption_key: file:redis-key }",
        &format!("encryption_key: file:redis-key, cluster: {{ nodes: [\"{}\"] }} }}", addresses[1]),
    );
    let gateways = [Gateway::start(&setup), Gateway::start(&setup)];
    let (access, refresh_token) = tokens(&gateways[0], "web");
    assert_eq!(verdict(&gateways[1], &access), "permit");
    let opaque = own_token(&gateways[0], "opaque");
    assert_eq!(verdict(&gateways[1], &opaque), "permit");
    let answer = refresh(&gateways[1], "web", &refresh_token);
    let access = member(&answer, "access_token");
    // A second use after the grace, seen by the other gateway.
    std::thread::park_timeout(Duration::from_millis(100));
    let last = refresh(&gateways[0], "web", &member(&answer, "refresh_token"));
    assert_eq!(last.status, 200);
    assert_eq!(
        refresh(&gateways[1], "web", &refresh_token).status,
        400,
        "its successor has been used"
    );
    wait_for("the family to end", || {
        (verdict(&gateways[0], &access) == "token.invalid").then_some(())
    });
}

#[test]
fn tls_to_the_server_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| {
        let output =
            Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for name in ["ca", "other"] {
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.pem"),
        ]);
    }
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=redis",
        "-keyout",
        "redis.key",
        "-out",
        "redis.csr",
    ]);
    std::fs::write(
        folder.path().join("san"),
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "redis.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "san",
        "-out",
        "redis.pem",
    ]);
    let [tls] = free_addresses();
    let redis = Redis::start_with(&[
        "--tls-port",
        &tls.port().to_string(),
        "--tls-cert-file",
        &path("redis.pem"),
        "--tls-key-file",
        &path("redis.key"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let with = |ca: Option<&str>| -> Setup {
        let mut setup = over(&redis);
        let line = ca.map_or_else(String::new, |_| ", ca: redis-ca.pem".to_owned());
        setup.gateway =
            setup.gateway.replace("file:redis-key }", &format!("file:redis-key{line} }}"));
        setup.files = vec![
            ("redis-url".into(), format!("rediss://127.0.0.1:{}", tls.port())),
            ("redis-key".into(), ENCRYPTION_KEY.into()),
        ];
        if let Some(ca) = ca {
            setup.files.push(("redis-ca.pem".into(), std::fs::read_to_string(path(ca)).unwrap()));
        }
        setup
    };
    let gateway = Gateway::start(&with(Some("ca.pem")));
    assert_eq!(verdict(&gateway, &own_token(&gateway, "opaque")), "permit");
    for wrong in [None, Some("other.pem")] {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = free_addresses();
        let file = with(wrong).write(folder.path(), a, b, c);
        let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["serve", "--config"])
            .arg(file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && text.contains("certificate"),
            "{wrong:?}: {text}"
        );
    }
}
