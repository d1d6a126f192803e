//! `[auth]`: the files that it names, and what is said of them.

use super::{NODES, check, error, errors, value};

#[test]
fn rules_for_logins_are_checked_with_the_files_that_they_need() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let users = file("users", "\"anna\" \"secret\"\n\"bert\" \"SCRAM-SHA-256$oops\"\n");
    let wrong = file("wrong", "local all all peer\nhost all all all radius\nhost all all\n");
    let with = |hba: &str, users: &str| format!("[auth]\nhba_file = {hba:?}\nauth_file = {users:?}\n");
    let found = errors(&with(&wrong, &users), &[NODES]);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().any(|it| it.starts_with("auth.hba_file: authentication method \"radius\"")));
    assert!(found.iter().any(|it| it.starts_with("auth.userlist_file: is no SCRAM secret")));
    assert!(found.iter().all(|it| !it.contains("oops")), "{found:#?}");

    let users = file("users", "\"anna\" \"secret\"\n");
    let rules = "host all anna all trust\nhost all bert all trust\nhost all all all md5\n\
                 local all all peer map=gone\nhostssl all all all cert\nhostnossl all all all password\n";
    let (json, code) = check(&with(&file("rules", rules), &users), &[NODES]);
    assert_eq!(code, 0, "{json:#}");
    let warned: Vec<(u64, String)> = json["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["key"] == "auth.hba_file")
        .map(|it| (it["line"].as_u64().unwrap(), it["message"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [
        (2, "method trust leaves nothing to log in at the servers with"),
        (4, "method peer leaves nothing to log in at the servers with"),
        (4, "map \"gone\" is not in auth.ident_file"),
        (5, "method cert leaves nothing to log in at the servers with"),
        (5, "is for TLS, which listen.tls turns off"),
        (5, "asks for a certificate, and listen.tls.client_ca is not set"),
        (6, "method password never lets anybody in without TLS"),
    ];
    assert_eq!(warned.len(), expected.len(), "{warned:#?}");
    for ((line, message), (expected_line, start)) in warned.iter().zip(expected) {
        assert!(*line == expected_line && message.starts_with(start), "{line}: {message}");
    }
}

#[test]
fn maps_of_users_are_read_and_their_passwords_are_not_shown() {
    let map = |fields: &str| format!("[[auth.map]]\n{fields}\n");
    let shown = value(
        &map("user = \"web\"\nserver_user = \"app\"\nserver_password = \"s3cr3t\""),
        &[NODES],
        "auth.map",
    );
    assert_eq!(shown, "[{ user = \"web\", server_user = \"app\", server_password = <set> }]");
    for (fields, expected) in [
        ("user = \"web\"", "auth.map: gives neither a server_user nor a server_password"),
        (
            "server_password = \"x\"",
            "auth.map: gives a password without saying whose: name server_user or user",
        ),
        ("usr = \"web\"", "auth.map: unknown field `usr`; did you mean `user`?"),
        (
            "user = \"web\"\nserver_password = \"x\"\nserver_password_file = \"/x\"",
            "auth.map: gives server_password and server_password_file; keep one of them",
        ),
    ] {
        assert_eq!(error(&map(fields), &[NODES]), expected);
    }
}
