//! What is taken for a stored password, and that it is never shown.

use proptest::prelude::*;

use super::*;
use crate::auth::{Credential, Md5Verifier, Verifier};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn a_verifier_that_postgresql_wrote_is_read() {
    // ALTER ROLE ... PASSWORD 'pencil' under password_encryption = scram-sha-256.
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let Some(Verifier::Scram(verifier)) = Verifier::parse(text) else { panic!("not read") };
    assert_eq!(verifier.to_rolpassword().as_str(), text);
    assert!(exchange(&verifier, client(b"pencil")).is_ok());
    let Some(Verifier::Md5(verifier)) = Verifier::parse("md5b0816d291c4b2ad77d28bf7455b16646") else {
        panic!("not read")
    };
    assert_eq!(verifier, Md5Verifier::from_password("anna", b"pw"));
}

#[test]
fn anything_else_is_no_verifier() {
    let long_salt = "A".repeat(4096);
    let texts = [
        String::new(),
        "plain".into(),
        "md5".into(),
        "md5B5D4A1C6D8CD4EB0CE5D5C2DD0B5A1F6".into(),
        "md5b5d4a1c6d8cd4eb0ce5d5c2dd0b5a1f".into(),
        "md5b5d4a1c6d8cd4eb0ce5d5c2dd0b5a1f6a".into(),
        "MD5b5d4a1c6d8cd4eb0ce5d5c2dd0b5a1f6".into(),
        "SCRAM-SHA-256".into(),
        "SCRAM-SHA-256$".into(),
        format!("SCRAM-SHA-1$4096:AAAA${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$0:AAAA${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$-1:AAAA${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$+1:AAAA${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$:AAAA${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$10000001:AAAA${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$99999999999999999999:AAAA${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$4096:${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$4096:A${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$4096:{long_salt}${KEY}:{KEY}"),
        format!("SCRAM-SHA-256$4096:AAAA${KEY}"),
        format!("SCRAM-SHA-256$4096:AAAA${KEY}:AAAA"),
        format!("SCRAM-SHA-256$4096:AAAA${KEY}:{KEY}:{KEY}"),
        format!("SCRAM-SHA-256$4096:AAAA${KEY}:{KEY} "),
    ];
    for text in texts {
        assert_eq!(Verifier::parse(&text), None, "{text}");
    }
}

#[test]
fn no_secret_is_printed() {
    let scram = verifier("pw");
    let keys = exchange(&scram, client(b"pw")).unwrap();
    let password = Zeroizing::new(b"hunter2".to_vec());
    let printed = [
        format!("{:?}", Verifier::Scram(scram.clone())),
        format!("{scram:?}"),
        format!("{:?}", Md5Verifier::from_password("anna", b"hunter2")),
        format!("{:?}", Verifier::Md5(Md5Verifier::from_password("anna", b"hunter2"))),
        format!("{keys:?}"),
        format!("{:?}", keys.client_key),
        format!("{:?}", ScramSecret::Password(password.clone())),
        format!("{:?}", Credential::Keys(keys)),
        format!("{:?}", Credential::Password { user: "anna".into(), password }),
    ];
    for text in printed {
        assert!(text.len() < 30, "{text}");
        assert!(!text.contains("hunter2") && !text.contains("anna"), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}", tail in "[0-9A-Za-z+/=:$]{0,150}") {
        let _ = Verifier::parse(&text);
        let _ = Verifier::parse(&format!("SCRAM-SHA-256${tail}"));
        let _ = Verifier::parse(&format!("md5{text}"));
    }

    #[test]
    fn a_changed_verifier_is_not_equal(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9]") {
        let original = verifier_cheap().to_rolpassword();
        let at = at.index(original.len());
        let mut changed = original.as_bytes().to_vec();
        changed[at] = with.as_bytes()[0];
        let changed = String::from_utf8(changed).unwrap();
        if changed != *original {
            prop_assert_ne!(Verifier::parse(&changed), Verifier::parse(&original));
        }
    }
}

fn verifier_cheap() -> ScramVerifier {
    ScramVerifier::from_password(b"pw", SALT, 1)
}
