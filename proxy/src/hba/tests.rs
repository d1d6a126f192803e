use std::cell::Cell;

use super::*;

/// This machine is 10.0.0.5/24 and ::1; `web` has an address, others are not known.
#[derive(Default)]
struct Machine {
    looked: Cell<usize>,
}

impl World for Machine {
    fn addresses(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        self.looked.set(self.looked.get() + 1);
        (name == "web").then(|| ["10.9.9.9".parse().unwrap(), "fd00::9".parse().unwrap()].into())
    }

    fn interfaces(&self) -> Vec<IpNet> {
        vec!["10.0.0.5/24".parse().unwrap(), "::1/128".parse().unwrap()]
    }
}

fn read(text: &str) -> Result<Hba, Vec<String>> {
    let read = |path: &Path| match path.to_str().unwrap() {
        "/etc/pg_hba.conf" => Ok(text.to_owned()),
        "/etc/apps" => Ok("app1\napp2, app3".to_owned()),
        other => Err(format!("{other}: can't be read")),
    };
    Hba::read(Path::new("/etc/pg_hba.conf"), &read)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

fn mistake(text: &str) -> String {
    let mistakes = read(text).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes[0].strip_prefix("/etc/pg_hba.conf:").unwrap().to_owned()
}

fn from(address: &str) -> Transport {
    match address.strip_prefix("tls ") {
        Some(address) => Transport::Tls(address.parse().unwrap()),
        None if address == "local" => Transport::Local,
        None => Transport::Plain(address.parse().unwrap()),
    }
}

const ROLES: &[&str] = &["anna", "staff", "sales"];

/// The line of the rule that is found, and its method.
fn found(text: &str, address: &str, database: &str, user: &str) -> String {
    let member_of: Vec<Box<str>> = ROLES.iter().map(|role| (*role).into()).collect();
    let question = Question {
        transport: from(address),
        database: database.strip_prefix("physical ").unwrap_or(database),
        user,
        is_replication: database.starts_with("physical "),
        member_of: if user == "anna" { &member_of } else { &[] },
    };
    match read(text).unwrap().decide(&question, &Machine::default()) {
        Verdict::Rule(rule) => format!("{} {}", rule.line, rule.method.name()),
        Verdict::NoEntry => "none".to_owned(),
        Verdict::Resolve(name) => format!("resolve {name}"),
    }
}

#[test]
fn the_first_rule_that_fits_counts() {
    let text = "# TYPE DATABASE USER ADDRESS METHOD\n\
                local all all peer\n\
                host  shop anna 10.0.0.0/8 scram-sha-256\n\
                host  all  all  10.0.0.0 255.255.0.0 md5\n\
                hostssl all all all trust\n\
                hostnossl all all ::1/128 reject\n";
    assert_eq!(found(text, "local", "shop", "anna"), "2 peer");
    assert_eq!(found(text, "10.1.2.3", "shop", "anna"), "3 scram-sha-256");
    assert_eq!(found(text, "::ffff:10.1.2.3", "shop", "anna"), "3 scram-sha-256");
    assert_eq!(found(text, "10.1.2.3", "shop", "bert"), "none");
    assert_eq!(found(text, "10.0.2.3", "shop", "bert"), "4 md5");
    assert_eq!(found(text, "tls 192.0.2.1", "shop", "bert"), "5 trust");
    assert_eq!(found(text, "::1", "shop", "bert"), "6 reject");
    assert_eq!(found(text, "192.0.2.1", "shop", "bert"), "none");
}

#[test]
fn databases_and_users_are_named_as_in_postgresql() {
    let first = |rule: &str, database: &str, user: &str| {
        found(&format!("host {rule} all trust\n"), "10.0.0.1", database, user) != "none"
    };
    for (rule, database, user, fits) in [
        ("a,b,\"c d\" all", "c d", "x", true),
        ("a,b all", "c", "x", false),
        ("sameuser all", "anna", "anna", true),
        ("sameuser all", "shop", "anna", false),
        ("samerole all", "sales", "anna", true),
        ("samegroup all", "anna", "anna", true),
        ("samerole all", "sales", "bert", false),
        ("\"sameuser\" all", "sameuser", "x", true),
        ("\"all\" all", "shop", "x", false),
        ("all all", "physical ", "x", false),
        ("replication all", "physical ", "x", true),
        ("replication all", "replication", "x", false),
        ("\"replication\" all", "replication", "x", true),
        ("all +staff", "shop", "anna", true),
        ("all +staff", "shop", "bert", false),
        ("all \"+staff\"", "shop", "+staff", true),
        ("all @apps,bert", "shop", "app3", true),
        ("all @apps,bert", "shop", "bert", true),
        ("all @apps", "shop", "bert", false),
        ("/^shop_[0-9]+$ all", "shop_12", "x", true),
        ("/^shop_[0-9]+$ all", "shop_", "x", false),
        ("all /^app[0-9]$", "shop", "app7", true),
        ("all \"/^app[0-9]{1,2}$\"", "shop", "app77", true),
        ("All all", "shop", "x", false),
    ] {
        assert_eq!(first(rule, database, user), fits, "{rule}: database {database}, user {user}");
    }
}

#[test]
fn addresses_are_looked_at_as_in_postgresql() {
    for (address, client, expected) in [
        ("all", "192.0.2.1", "1 trust"),
        ("0.0.0.0/0", "192.0.2.1", "1 trust"),
        ("0.0.0.0/0", "::1", "none"),
        ("::/0", "192.0.2.1", "none"),
        ("10.1.2.3/8", "10.200.0.1", "1 trust"),
        ("fd00::/8", "fdff::1", "1 trust"),
        ("samehost", "10.0.0.5", "1 trust"),
        ("samehost", "10.0.0.6", "none"),
        ("samenet", "10.0.0.6", "1 trust"),
        ("samenet", "10.0.1.6", "none"),
        ("\"samenet\"", "10.0.0.6", "resolve samenet"),
        ("web", "10.9.9.9", "1 trust"),
        ("web", "fd00::9", "1 trust"),
        ("web", "10.9.9.8", "none"),
        ("db.example.org", "10.9.9.9", "resolve db.example.org"),
    ] {
        assert_eq!(found(&format!("host all all {address} trust"), client, "d", "u"), expected, "{address}");
    }
    // Nobody asks for addresses where something else decides.
    let text = "host other all elsewhere trust\nhost all all 10.0.0.0/8 md5";
    assert_eq!(found(text, "10.0.0.1", "d", "u"), "2 md5");
}

#[test]
fn gssapi_is_never_there() {
    assert_eq!(
        found("hostgssenc all all all trust\nhostnogssenc all all all md5", "10.0.0.1", "d", "u"),
        "2 md5"
    );
}

#[test]
fn options_are_those_that_fit_the_method() {
    let rule = |text: &str| read(text).unwrap().rules[0].clone();
    let cert = rule("hostssl all all all cert map=people clientname=DN");
    assert_eq!((cert.certificate, cert.naming), (Certificate::NamesUser, Naming::DistinguishedName));
    assert_eq!(cert.map.as_deref(), Some("people"));
    assert_eq!(rule("hostssl all all all md5 clientcert=verify-ca").certificate, Certificate::Verified);
    assert_eq!(rule("hostssl all all all md5 clientcert=verify-full").certificate, Certificate::NamesUser);
    assert_eq!(rule("local all all peer map=\"my map\"").map.as_deref(), Some("my map"));
    assert_eq!(rule("local all all ident").method, Method::Peer);
    for (text, why) in [
        (
            "host all all all md5 clientcert=verify-ca",
            "1: clientcert can only be configured for \"hostssl\" rows",
        ),
        ("hostssl all all all cert clientcert=verify-ca", "1: clientcert only accepts \"verify-full\""),
        ("hostssl all all all md5 clientcert=1", "1: invalid value for clientcert: \"1\""),
        ("hostssl all all all cert clientname=OU", "1: invalid value for clientname: \"OU\""),
        ("host all all all md5 map=x", "1: authentication option \"map\" is only valid for"),
        ("host all all all md5 map", "1: authentication option not in name=value format: map"),
        ("host all all all md5 krb_realm=X", "1: unrecognized authentication option name: \"krb_realm\""),
    ] {
        assert!(mistake(text).starts_with(why), "{}", mistake(text));
    }
}

#[test]
fn mistakes_are_named_with_their_line_and_all_of_them() {
    for (text, why) in [
        ("", "1: contains no entries"),
        ("# nothing\n", "1: contains no entries"),
        ("tcp all all all md5", "1: invalid connection type \"tcp\""),
        ("\nhost", "2: end-of-line before database specification"),
        ("host all", "1: end-of-line before role specification"),
        ("host all all", "1: end-of-line before IP address specification"),
        ("local all all", "1: end-of-line before authentication method"),
        ("host all all 10.0.0.1", "1: end-of-line before netmask specification"),
        ("host all all 10.0.0.1 md5", "1: invalid IP mask \"md5\""),
        ("host all all 10.0.0.1 ffff:: md5", "1: IP address and mask do not match"),
        ("host all all 10.0.0.0 255.0.255.0 md5", "1: invalid IP mask \"255.0.255.0\": its ones"),
        ("host all all 10.0.0.1/33 md5", "1: invalid CIDR mask in address \"10.0.0.1/33\""),
        ("host all all web/8 md5", "1: specifying both host name and CIDR mask is invalid"),
        ("host all all .example.org md5", "1: host name suffixes such as \".example.org\" are not supported"),
        ("host all all we!b md5", "1: invalid IP address or host name \"we!b\""),
        ("host all all a,b md5", "1: multiple values specified for host address"),
        (
            "host all all all ldap ldapserver=x",
            "1: authentication method \"ldap\" is not supported by pgherd",
        ),
        ("host all all all ident", "1: authentication method \"ident\" is not supported by pgherd"),
        ("host all all all scram", "1: invalid authentication method \"scram\""),
        ("host all all all peer", "1: peer authentication is only supported on local sockets"),
        ("host all all all cert", "1: cert authentication is only supported on hostssl connections"),
        ("host /( all all md5", "1: invalid regular expression \"(\": "),
        ("include other.conf", "1: \"include\" is not supported by pgherd"),
        ("host @gone all all md5", "1: /etc/gone: can't be read"),
    ] {
        assert!(mistake(text).starts_with(why), "{text}: {}", mistake(text));
    }
    let all = read("host\nlocal all all peer\nhost all all all pam").unwrap_err();
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn memberships_are_asked_for_only_where_a_rule_needs_them() {
    let asks = |text: &str| read(text).unwrap().asks_for_memberships();
    assert!(asks("host all +staff all md5") && asks("host a,samerole all all md5"));
    assert!(!asks("host all \"+staff\",anna all md5"));
}

#[test]
fn users_that_a_rule_names_are_known() {
    let named = |text: &str| read(text).unwrap().rules[0].named_users().map(|names| names.join(","));
    assert_eq!(named("host all anna,bert all trust").as_deref(), Some("anna,bert"));
    assert_eq!(named("host all anna,+staff all trust"), None);
}

#[test]
fn maps_say_who_may_be_whom() {
    let read = |text: &'static str| {
        Maps::read(Path::new("/etc/pg_ident.conf"), &|_: &Path| Ok(text.to_owned()))
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let maps = read(
        "# MAP SYSTEM USER\n\
         os    root      postgres\n\
         os    /^(.*)_x$ \\1\n\
         os    dba       all\n\
         os    lead      +staff\n\
         certs \"CN=anna,O=Shop\" anna\n\
         any   /.        all\n",
    )
    .unwrap();
    let allow = |map, system, user| maps.allow(map, system, user, &["staff".into()]);
    assert!(allow(None, "anna", "anna") && !allow(None, "anna", "bert"));
    assert!(allow(Some("os"), "root", "postgres") && !allow(Some("os"), "root", "root"));
    assert!(allow(Some("os"), "bert_x", "bert") && !allow(Some("os"), "bert_x", "anna"));
    assert!(allow(Some("os"), "dba", "whoever") && allow(Some("os"), "lead", "whoever"));
    assert!(
        allow(Some("certs"), "CN=anna,O=Shop", "anna") && !allow(Some("certs"), "CN=bert,O=Shop", "anna")
    );
    assert!(allow(Some("any"), "x", "y") && !allow(Some("gone"), "x", "x"));
    assert!(maps.has("os") && !maps.has("gone") && maps.asks_for_memberships());
    assert!(
        read("os /^x$ \\1").unwrap_err().contains(":1: regular expression \"^x$\" has no subexpressions")
    );
    assert!(read("os x").unwrap_err().contains(":1: takes three fields"));
}
