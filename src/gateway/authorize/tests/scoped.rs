//! Tokens that are limited to a Sandbox or claim: genuine ones at the right and the wrong place, and forged ones.

use std::cell::Cell;

use jiff::SignedDuration;
use jiff::Timestamp;

use super::issuer::{CLUSTER, Issuer, now, scoped, signed, token};
use super::*;
use crate::only::Holder;

const BOX: &str = "paddock.dev/sandbox/ns/box/uid";

thread_local!(static LATER: Cell<i64> = const { Cell::new(0) });

/// A time that a test moves.
fn time() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(LATER.get())
}

fn authorizer(issuer: &Issuer, rule: ScopedTokens) -> Authorizer {
    Authorizer::reviewed(issuer.client(), rule, Clock::new(time))
}

/// The objects to which an admitted token is limited. `None` if it is not limited.
type Opens = Option<Arc<[Holder]>>;

async fn admit(authorizer: &Authorizer, token: &str, target: (&str, &str, u16)) -> Result<Caller, Refusal> {
    let (namespace, name, port) = target;
    let target = Target { namespace: namespace.into(), name: name.into(), port };
    let presented = authorizer.present(&Credential::Bearer(token.into()), &target)?;
    authorizer.admit(&presented, CLIENT, &target).await
}

async fn ask(authorizer: &Authorizer, token: &str, target: (&str, &str, u16)) -> Result<Opens, (Reason, String)> {
    let opens = |caller: Caller| match caller.only {
        Only::Any => None,
        Only::Of { holders, .. } => Some(holders),
    };
    let admitted = admit(authorizer, token, target).await;
    admitted.map(opens).map_err(|refusal| (refusal.reason, refusal.detail))
}

fn sandbox(uid: &str) -> Opens {
    Some([Holder::Sandbox(uid.into())].into())
}

fn claim(uid: &str) -> Opens {
    Some([Holder::Claim(uid.into())].into())
}

#[tokio::test(start_paused = true)]
async fn token_admits_to_its_sandbox_and_port_alone() {
    let issuer = Issuer::default();
    issuer.deny("denied");
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let here = ("ns", "box", 8888);
    let forbidden = |detail: &str| Err((Reason::Forbidden, detail.to_owned()));
    let another = || forbidden("the token is for another Sandbox");
    let port = |port: u16| forbidden(&format!("the token is not for port {port}"));
    for (scopes, target, wanted) in [
        (&[BOX][..], here, Ok(sandbox("uid"))),
        (&[BOX], ("ns", "box", 22), Ok(sandbox("uid"))),
        (&[BOX], ("ns", "other", 8888), another()),
        (&[BOX], ("other", "box", 8888), another()),
        (&["paddock.dev/sandbox/ns/box/uid/8888"], here, Ok(sandbox("uid"))),
        (&["paddock.dev/sandbox/ns/box/uid/8888"], ("ns", "box", 8889), port(8889)),
        (&["paddock.dev/sandbox/ns/box/uid/8888"], ("ns", "box", 888), port(888)),
        (
            &["paddock.dev/sandbox/ns/box/uid/8888", "paddock.dev/sandbox/ns/box/uid/22"],
            ("ns", "box", 22),
            Ok(sandbox("uid")),
        ),
        (&["paddock.dev/sandbox/ns/box/uid/8888", "paddock.dev/sandbox/ns/other/uid"], ("ns", "box", 22), port(22)),
        (&["paddock.dev/claim/ns/mine/c"], here, Ok(claim("c"))),
        (&["paddock.dev/claim/ns/mine/c/8888"], here, Ok(claim("c"))),
        (&["paddock.dev/claim/ns/mine/c/8888"], ("ns", "box", 1), port(1)),
        (&["paddock.dev/claim/other/mine/c"], here, another()),
        // A Sandbox and a claim may have the same name. They have different UIDs.
        (&["paddock.dev/claim/ns/box/uid"], here, Ok(claim("uid"))),
        (&["paddock.dev/sandbox/ns/denied/uid"], ("ns", "denied", 8888), forbidden("forbidden")),
    ] {
        for round in ["asked", "remembered"] {
            assert_eq!(ask(&authorizer, &scoped(scopes), target).await, wanted, "{scopes:?} {target:?} {round}");
        }
    }
    assert_eq!(
        ask(&authorizer, &token(&json!({ "aud": BOX })), here).await,
        Ok(sandbox("uid")),
        "one audience as a text"
    );
    assert_eq!(ask(&authorizer, &scoped(&[CLUSTER]), here).await, Ok(None), "a token of the API server");
}

#[tokio::test(start_paused = true)]
async fn token_that_the_api_server_did_not_issue_for_this_is_refused() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let claims = |more: Value| {
        let mut all = json!({ "iss": CLUSTER, "sub": "u", "nbf": 0, "exp": now() + 600, "aud": [BOX] });
        json_patch::merge(&mut all, &more);
        all
    };
    let es = json!({ "alg": "ES256", "kid": "key" });
    let genuine = scoped(&["paddock.dev/sandbox/ns/other/uid"]);
    let parts: Vec<&str> = genuine.split('.').collect();
    let own = scoped(&[BOX]);
    let of_box: Vec<&str> = own.split('.').collect();
    let not_genuine = "the API server does not accept this token";
    let many: Vec<String> = (1..=17).map(|port| format!("{BOX}/{port}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (what, token, wanted) in [
        ("another key", signed(&es, &claims(json!({})), "another key"), not_genuine),
        ("no signature", signed(&json!({ "alg": "none" }), &claims(json!({})), ""), not_genuine),
        ("an empty signature", format!("{}.{}.", of_box[0], of_box[1]), not_genuine),
        (
            "HS256 with the public key",
            signed(&json!({ "alg": "HS256" }), &claims(json!({})), "public key"),
            not_genuine,
        ),
        ("the claims of another token", format!("{}.{}.{}", parts[0], of_box[1], parts[2]), not_genuine),
        ("another issuer", token(&json!({ "aud": [BOX], "iss": "https://elsewhere" })), not_genuine),
        ("not valid yet", token(&json!({ "aud": [BOX], "nbf": now() + 600 })), not_genuine),
        ("expired", token(&json!({ "aud": [BOX], "exp": now() - 600 })), "the token has expired"),
        (
            "expired, for the API server not yet",
            token(&json!({ "aud": [BOX], "exp": now() - 1 })),
            "the token has expired",
        ),
        ("no end", token(&json!({ "aud": [BOX], "exp": null })), "never expires"),
        ("no number as its end", token(&json!({ "aud": [BOX], "exp": "never" })), "cannot be read"),
        ("a scope of a later version", scoped(&[BOX, "paddock.dev/namespace/ns"]), "must have the form"),
        ("no UID", scoped(&["paddock.dev/sandbox/ns/box/"]), "must have the form"),
        ("too many scopes", scoped(&many), "more than 16"),
        ("another audience", scoped(&["https://paddock.dev/sandbox/ns/box/uid"]), "unauthenticated"),
        ("a fourth part", format!("{own}.x"), "unauthenticated"),
        ("more than claims", format!("{}.{}.{}", of_box[0], &of_box[1][1..], of_box[2]), "cannot be read"),
        ("only claims", of_box[1].to_owned(), "unauthenticated"),
        ("no claims", format!("{}..{}", of_box[0], of_box[2]), "cannot be read"),
        ("padding", format!("{}.{}=.{}", of_box[0], of_box[1], of_box[2]), "characters that no bearer token has"),
    ] {
        let (reason, detail) = ask(&authorizer, &token, ("ns", "box", 8888)).await.unwrap_err();
        assert_eq!(reason, Reason::Unauthenticated, "{what}: {detail}");
        assert!(detail.contains(wanted), "{what}: {detail}");
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!detail.contains(part), "{what}: {detail}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn authenticator_that_knows_no_audiences_confirms_no_scope() {
    let issuer = Issuer::default();
    issuer.knows_no_audiences();
    let refused = ask(&authorizer(&issuer, ScopedTokens::Accept), &scoped(&[BOX]), ("ns", "box", 8888)).await;
    assert_eq!(refused.map_err(|(reason, _)| reason), Err(Reason::Unauthenticated));
}

#[tokio::test(start_paused = true)]
async fn token_ends_at_its_end_although_it_was_admitted_lately_and_nobody_can_be_asked() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let (token, here) = (token(&json!({ "aud": [BOX], "exp": now() + 30 })), ("ns", "box", 8888));
    assert_eq!(ask(&authorizer, &token, here).await, Ok(sandbox("uid")));
    LATER.set(20);
    assert_eq!(ask(&authorizer, &token, here).await, Ok(sandbox("uid")));
    assert_eq!(issuer.reviews(), 1, "a token is asked about once");
    LATER.set(31);
    for _ in 0..2 {
        let expired = Err((Reason::Unauthenticated, "the token has expired".to_owned()));
        assert_eq!(ask(&authorizer, &token, here).await, expired);
        issuer.away();
        tokio::time::advance(limits::REVIEWS.admitted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn revoked_token_ends_within_the_time_of_an_answer() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let (token, here) = (scoped(&[BOX]), ("ns", "box", 8888));
    assert_eq!(ask(&authorizer, &token, here).await, Ok(sandbox("uid")));
    issuer.revoke("system:serviceaccount:ns:client");
    tokio::time::advance(limits::REVIEWS.admitted).await;
    assert_eq!(ask(&authorizer, &token, here).await.unwrap_err().0, Reason::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn rule_says_which_sort_of_tokens_is_accepted() {
    let (limited, of_api_server) = (scoped(&[BOX]), scoped(&[CLUSTER]));
    for (rule, token, wanted) in [
        (ScopedTokens::Accept, &limited, Ok(sandbox("uid"))),
        (ScopedTokens::Accept, &of_api_server, Ok(None)),
        (ScopedTokens::Require, &limited, Ok(sandbox("uid"))),
        (ScopedTokens::Require, &of_api_server, Err("accepts only tokens that are limited")),
        (ScopedTokens::Refuse, &limited, Err("accepts no tokens that are limited")),
        (ScopedTokens::Refuse, &of_api_server, Ok(None)),
    ] {
        let issuer = Issuer::default();
        let answer = ask(&authorizer(&issuer, rule), token, ("ns", "box", 8888)).await;
        match (answer, wanted) {
            (Ok(only), Ok(wanted)) => assert_eq!(only, wanted, "{rule:?}"),
            (Err((Reason::Unauthenticated, detail)), Err(wanted)) => {
                assert!(detail.contains(wanted), "{rule:?}: {detail}");
                assert_eq!(issuer.reviews(), 0, "the API server is not asked");
            }
            (answer, wanted) => panic!("{rule:?}: {answer:?}, and not {wanted:?}"),
        }
    }
}

/// The texts that the API server takes for this token.
fn spellings(token: &str) -> Vec<(&'static str, String)> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let parts: Vec<&str> = token.split('.').collect();
    let [head, claims, mark] = parts.as_slice() else { panic!("{token}") };
    let (begin, end) = claims.split_at(10);
    let mut spellings = vec![
        ("a word behind it", format!("{token} .")),
        ("a space behind it", format!("{token} ")),
        ("a line end in the claims", format!("{head}.{begin}\n{end}.{mark}")),
        ("a carriage return in the claims", format!("{head}.{begin}\r{end}.{mark}")),
        ("a line end in the head", format!("\n{token}")),
        ("a line end behind it", format!("{token}\r\n")),
    ];
    // The lowest bit of the last character is no part of the last byte.
    if !claims.len().is_multiple_of(4) {
        let (rest, last) = claims.split_at(claims.len() - 1);
        let digit = DIGITS.iter().position(|digit| *digit == last.as_bytes()[0]).unwrap();
        let other = char::from(DIGITS[digit ^ 1]);
        spellings.push(("another last character", format!("{head}.{rest}{other}.{mark}")));
    }
    spellings
}

#[tokio::test(start_paused = true)]
async fn token_that_the_api_server_reads_less_strictly_is_not_one_without_a_limit() {
    for rule in [ScopedTokens::Accept, ScopedTokens::Require, ScopedTokens::Refuse] {
        for audiences in [&[CLUSTER, BOX][..], &[BOX, CLUSTER], &[BOX, "https://elsewhere.example.com"]] {
            let mut others = 0;
            for filler in ["", "x", "xx"] {
                let mixed = token(&json!({ "aud": audiences, "filler": filler }));
                let mut spelled = spellings(&mixed);
                others += spelled.iter().filter(|(what, _)| what.starts_with("another")).count();
                spelled.push(("as it was issued", mixed));
                for (what, token) in spelled {
                    let issuer = Issuer::default();
                    let authorizer = authorizer(&issuer, rule);
                    for name in ["box", "other"] {
                        let refused = ask(&authorizer, &token, ("ns", name, 8888)).await;
                        let reason = refused.map_err(|(reason, _)| reason);
                        assert_eq!(reason, Err(Reason::Unauthenticated), "{rule:?} {audiences:?} {name} {what}");
                    }
                    assert_eq!((issuer.reviews(), issuer.rights()), (0, 0), "{what}: nobody has to be asked");
                    let genuine = audiences.contains(&CLUSTER);
                    assert_eq!(issuer.accepts(&token), genuine, "{what}: the API server reads it");
                }
            }
            assert_eq!(others, 2, "two lengths of three have bits that do not count");
        }
    }
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let (_, detail) = ask(&authorizer, &scoped(&[CLUSTER, BOX]), ("ns", "box", 8888)).await.unwrap_err();
    assert!(detail.contains("request one that has scopes alone"), "{detail}");
    // Tokens of other authenticators have no claims.
    for opaque in ["AbC123", "a.b", "a-b_c~d+e/f==", "a.b.c.d.e"] {
        let asked = issuer.reviews();
        assert!(ask(&authorizer, opaque, ("ns", "box", 8888)).await.is_err());
        assert_eq!(issuer.reviews(), asked + 1, "{opaque}: the API server is asked");
    }
}

#[tokio::test(start_paused = true)]
async fn token_of_one_sandbox_asks_about_no_other() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let token = scoped(&[BOX]);
    for n in 0..3000 {
        let refusal = admit(&authorizer, &token, ("ns", &format!("box-{n}"), 8888)).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Forbidden, "{refusal:?}");
        let user = refusal.user.as_deref();
        assert_eq!(user, Some("system:serviceaccount:ns:client"), "the log names who misuses the token");
    }
    assert_eq!((issuer.reviews(), issuer.rights()), (1, 0));
    assert_eq!(ask(&authorizer, &token, ("ns", "box", 8888)).await, Ok(sandbox("uid")));
    assert_eq!((issuer.reviews(), issuer.rights()), (1, 1));
    issuer.deny("box");
    tokio::time::advance(limits::REVIEWS.admitted).await;
    let refusal = admit(&authorizer, &token, ("ns", "box", 8888)).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.user.is_some()), (Reason::Forbidden, true), "a user without the right");
    let forged = signed(&json!({ "alg": "ES256" }), &json!({ "aud": [BOX], "exp": now() + 600 }), "another key");
    let refusal = admit(&authorizer, &forged, ("ns", "other", 8888)).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.user), (Reason::Unauthenticated, None));
}

#[tokio::test(start_paused = true)]
async fn revoked_token_is_not_admitted_again_while_nobody_can_be_asked() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let token = scoped(&[BOX, "paddock.dev/sandbox/ns/other/uid"]);
    let reason = async |name| ask(&authorizer, &token, ("ns", name, 8888)).await.map_err(|(reason, _)| reason);
    for name in ["box", "other"] {
        assert_eq!(reason(name).await, Ok(sandbox("uid")));
    }
    issuer.away();
    tokio::time::advance(limits::REVIEWS.admitted).await;
    assert_eq!(reason("box").await, Ok(sandbox("uid")), "nothing says that it was revoked");
    issuer.back();
    issuer.revoke("system:serviceaccount:ns:client");
    assert_eq!(reason("box").await, Err(Reason::Unauthenticated));
    issuer.away();
    for _ in 0..3 {
        for name in ["box", "other"] {
            let refused = reason(name).await;
            assert!(matches!(refused, Err(Reason::Unauthenticated | Reason::AuthorizerFailed)), "{name}: {refused:?}");
        }
        tokio::time::advance(limits::REVIEWS.refused).await;
    }
}

#[tokio::test(start_paused = true)]
async fn admission_counts_from_the_time_at_which_the_token_was_confirmed() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let token = scoped(&[BOX, "paddock.dev/sandbox/ns/other/uid"]);
    assert_eq!(ask(&authorizer, &token, ("ns", "box", 8888)).await, Ok(sandbox("uid")));
    tokio::time::advance(limits::REVIEWS.admitted - std::time::Duration::from_secs(1)).await;
    assert_eq!(ask(&authorizer, &token, ("ns", "other", 8888)).await, Ok(sandbox("uid")));
    assert_eq!((issuer.reviews(), issuer.rights()), (1, 2));
    issuer.revoke("system:serviceaccount:ns:client");
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    for name in ["other", "box"] {
        assert_eq!(ask(&authorizer, &token, ("ns", name, 8888)).await.unwrap_err().0, Reason::Unauthenticated);
    }
}

#[tokio::test(start_paused = true)]
async fn token_that_expires_during_its_review_is_refused() {
    let issuer = Issuer::default();
    issuer.meanwhile(|| LATER.set(31));
    let token = token(&json!({ "aud": [BOX], "exp": now() + 30 }));
    let refused = ask(&authorizer(&issuer, ScopedTokens::Accept), &token, ("ns", "box", 8888)).await;
    assert_eq!(refused, Err((Reason::Unauthenticated, "the token has expired".to_owned())));
    assert_eq!(issuer.rights(), 1);
}

#[test]
fn token_is_in_no_output() {
    let text = scoped(&[BOX]);
    let token = Token::for_audiences(text.clone(), vec![BOX.to_owned()]);
    let shown = format!("{token:?}");
    assert!(shown.contains(BOX) && !shown.contains(&text), "{shown}");
}
