#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{diagnosis::Diagnosis, endpoint::Endpoint, other::parse, *};

fn read(pairs: &[(&str, &str)]) -> Result<OssOptions, String> {
    let mut options = BTreeMap::from([
        ("bucket".to_owned(), "aliyun-docker".to_owned()),
        ("ak_id".to_owned(), "the-id".to_owned()),
        ("ak_secret".to_owned(), "the+secret/=".to_owned()),
        ("url".to_owned(), "oss-cn-hangzhou.aliyuncs.com".to_owned()),
    ]);
    options.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    OssOptions::read(&mut Given(options))
}

#[test]
fn the_documented_example_becomes_arguments() {
    let example = [("no_stat_cache", "true"), ("other_opts", "-o allow_other -o default_permission=666")];
    let options = read(&example).unwrap();
    let arguments = [
        "url=http://oss-cn-hangzhou.aliyuncs.com",
        "max_stat_cache_size=0",
        "attr_timeout=0",
        "entry_timeout=0",
        "negative_timeout=0",
        "allow_other",
        "umask=0000",
    ];
    assert_eq!(options.arguments().unwrap(), arguments);
    assert_eq!(options.credentials(), "the-id:the+secret/=\n");
    assert!(!format!("{options:?}{:?}", options.status()).contains("the+secret"));
    assert_eq!(options.redact("a the+secret/= of the-id"), "a *** of ***");
    let stored = serde_json::to_string(&options).unwrap();
    assert_eq!(serde_json::from_str::<OssOptions>(&stored).unwrap(), options);
}

#[test]
fn wrong_options_are_refused_by_name() {
    let long = "x".repeat(300);
    let wrong: [(&str, &str); 17] = [
        ("bucket", "Aliyun"),
        ("bucket", "ab"),
        ("bucket", "../etc"),
        ("bucket", "a..b"),
        ("bucket", "-abc"),
        ("bucket", ""),
        ("ak_id", "a:b"),
        ("ak_id", "#a"),
        ("ak_secret", "a b"),
        ("ak_secret", "a\nb"),
        ("ak_secret", &long),
        ("ak_secret", ""),
        ("no_stat_cache", "maybe"),
        ("url", "ftp://x"),
        ("url", "http://x/path"),
        ("other_opts", "-o passwd_file=/etc/shadow"),
        ("other_opts", "rm -rf /"),
    ];
    for (name, value) in wrong {
        let refused = read(&[(name, value)]).unwrap_err();
        assert!(refused.contains(name), "{name}={value}: {refused}");
    }
}

#[test]
fn endpoints_of_all_kinds() {
    let parse = |url| Endpoint::parse(url, "aliyun-docker").map(|endpoint| (endpoint.url, endpoint.path_style));
    let good = [
        ("oss-cn-hangzhou.aliyuncs.com", "http://oss-cn-hangzhou.aliyuncs.com", false),
        ("https://OSS-cn-hangzhou.aliyuncs.com/", "https://oss-cn-hangzhou.aliyuncs.com", false),
        ("aliyun-docker.oss-cn-hangzhou.aliyuncs.com", "http://oss-cn-hangzhou.aliyuncs.com", false),
        ("https://s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com", false),
        ("10.0.0.5:9000", "http://10.0.0.5:9000", true),
        ("minio:9000", "http://minio:9000", true),
        ("https://s3.example.com", "https://s3.example.com", true),
        ("notaliyuncs.com", "http://notaliyuncs.com", true),
        ("http://[fd00::1]:9000", "http://[fd00::1]:9000", true),
    ];
    for (given, url, path_style) in good {
        assert_eq!(parse(given), Ok((url.to_owned(), path_style)), "{given}");
    }
    let bad = [
        "",
        "http://",
        "host:0",
        "host:99999",
        "host:+1",
        "user@host",
        "host?x",
        "host#x",
        "a b",
        "-x",
        "host,ro",
        "[fd00::1",
        "[x]:1",
        "file:///etc",
    ];
    for url in bad {
        assert!(parse(url).is_err(), "{url}");
    }
    let dotted = Endpoint::parse("https://s3.amazonaws.com", "a.b.c").unwrap();
    assert!(dotted.path_style, "certificates are for one level of names");
}

#[test]
fn other_options_are_translated() {
    let good: [(&str, &[&str]); 12] = [
        ("", &[]),
        ("-o allow_other", &["allow_other"]),
        ("-oallow_other,ro -o  uid=1000 ", &["allow_other", "ro", "uid=1000"]),
        ("-o default_permission=644", &["umask=0022"]),
        ("-o default_permission=600", &["umask=0077"]),
        ("-o default_permission=0777", &["umask=0000"]),
        ("-onoxattr -o dbglevel=info", &[]),
        ("-o sigv1", &["sigv2"]),
        ("-o region=cn-hangzhou", &["endpoint=cn-hangzhou"]),
        ("-o use_rrs=1", &["use_rrs"]),
        ("-o max_dirty_data=-1", &["max_dirty_data=-1"]),
        ("-o default_acl=public-read", &["default_acl=public-read"]),
    ];
    for (text, options) in good {
        assert_eq!(parse(text).unwrap(), options, "{text}");
    }
    let bad = [
        "allow_other",
        "-o",
        "-f",
        "-d",
        "-o use_cache=/etc",
        "-o logfile=/etc/passwd",
        "-o ahbe_conf=/x",
        "-o mime=/etc/shadow",
        "-o iam_role=auto",
        "-o profile=x",
        "-o url=http://evil",
        "-o bucket=x",
        "-o passwd_file=/x",
        "-o suid",
        "-o dev",
        "-o tmpdir=/x",
        "-o fsname=x",
        "-o subtype=x",
        "-o use_sse=/etc/shadow",
        "-o umask=9",
        "-o umask=",
        "-o uid=-1",
        "-o uid=x",
        "-o allow_other=0",
        "-o default_acl=x",
        "-o endpoint=a\\,b",
        "-o host=$(id)",
        "--help",
        "-oallow_other;id",
        "-o cipher_suites=a/b",
        "-o retries=1000",
    ];
    for text in bad {
        let refused = parse(text).unwrap_err();
        assert!(refused.starts_with("the option other_opts"), "{text}: {refused}");
    }
    assert!(parse(&"-o ro ".repeat(100)).is_err());
    assert!(parse(&" ".repeat(5000)).is_err());
}

#[test]
fn the_reason_of_a_refusal_is_the_servers_first() {
    let mut refused = Diagnosis::default();
    for line in [
        "[CRT] s3fs_logger.cpp:LowSetLogLevel(240): change debug level from [CRT] to [ERR] ",
        "[ERR] curl.cpp:RequestPerform(2363): HTTP response code 403, returning EPERM. Body Text: <?xml version=\"1.0\"?>",
        "<Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message><RequestId>1</RequestId></Error>",
        "[CRT] s3fs.cpp:s3fs_check_service(3575): Failed to connect by sigv4, so retry to connect by signature version 2.",
        "<Error><Code>AccessDenied</Code><Message>AWS authentication requires a valid Date.</Message></Error>",
        "[CRT] s3fs.cpp:s3fs_check_service(3590): invalid credentials(host=http://x) - result of checking service.",
    ] {
        refused.read(line);
    }
    assert_eq!(refused.words().unwrap(), "the server refuses: SignatureDoesNotMatch: Check your key");
    assert!(!refused.is_passing());
    let mut away = Diagnosis::default();
    away.read("[ERR] curl.cpp:RequestPerform(2411): ### CURLE_COULDNT_RESOLVE_HOST");
    away.read(
        "[CRT] s3fs.cpp:s3fs_check_service(3597): unable to connect(host=http://x) - result of checking service.",
    );
    assert_eq!(away.words().unwrap(), "the name of the server cannot be resolved");
    assert!(away.is_passing());
    let mut local = Diagnosis::default();
    assert_eq!(local.words(), None);
    local.read("fuse: device not found, try 'modprobe fuse' first");
    assert_eq!(local.words().unwrap(), "fuse: device not found, try 'modprobe fuse' first");
}

proptest! {
    /// Whatever is written there: what passes is a list of known options in a harmless alphabet.
    #[test]
    fn other_options_never_smuggle(text in "(-o ?)?[ -~\\n\\t]{0,60}") {
        if let Ok(options) = parse(&text) {
            for option in options {
                let name = option.split('=').next().unwrap().to_owned();
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
                prop_assert!(!["passwd_file", "url", "bucket", "use_cache", "logfile", "tmpdir"].contains(&name.as_str()));
                let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"_=-.:+!@".contains(&byte);
                prop_assert!(option.bytes().all(harmless), "{}", option);
            }
        }
    }

    #[test]
    fn known_options_pass_in_every_spelling(
        names in prop::collection::vec(prop::sample::select(vec!["allow_other", "ro", "nocopyapi", "uid=7", "umask=022"]), 0..8),
        glued in any::<bool>(),
        list in any::<bool>(),
    ) {
        let begin = if glued { "-o" } else { "-o " };
        let text = if list && !names.is_empty() {
            format!("{begin}{}", names.join(","))
        } else {
            names.iter().map(|name| format!("{begin}{name}")).collect::<Vec<_>>().join(" ")
        };
        prop_assert_eq!(parse(&text).unwrap(), names);
    }

    #[test]
    fn endpoints_are_one_origin(url in "[ -~]{0,40}", bucket in "[a-z0-9]{3,10}") {
        if let Ok(endpoint) = Endpoint::parse(&url, &bucket) {
            let rest = endpoint.url.strip_prefix("http://").or_else(|| endpoint.url.strip_prefix("https://")).unwrap();
            let harmless = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_:[]".contains(&byte);
            prop_assert!(!rest.is_empty() && rest.bytes().all(harmless), "{}", endpoint.url);
        }
    }
}
