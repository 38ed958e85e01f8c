//! The option `other_opts`: what users add to the command line of ossfs, taken apart without a shell.
//!
//! Only options of the tables below pass. Missing on purpose are those that name files or programs of the machine
//! (`use_cache`, `logfile`, `passwd_file`, `ahbe_conf`, …), that take credentials from elsewhere (`iam_role`, `profile`,
//! …), that are the plug-in's own (`url`, `bucket`, …), and that weaken the machine (`suid`, `dev`).

use crate::volumes::options::Quoted;

const TEXT_MAX: usize = 4096;
const OPTIONS_MAX: usize = 64;

/// What may stand behind an option's name.
#[derive(Clone, Copy)]
enum Value {
    /// Nothing, or a number that says nothing more.
    Flag,
    /// A number in these bounds.
    Number(i64, i64),
    /// Octal permission bits.
    Mode,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A word of letters, digits and a few signs.
    Word,
}

/// Options of `s3fs` that mean the same in ossfs.
const OPTIONS: &[(&str, Value)] = &[
    ("allow_other", Value::Flag),
    ("allow_root", Value::Flag),
    ("async", Value::Flag),
    ("atime", Value::Flag),
    ("attr_timeout", Value::Number(0, 86400)),
    ("auto_cache", Value::Flag),
    ("big_writes", Value::Flag),
    ("cipher_suites", Value::Word),
    ("complement_stat", Value::Flag),
    ("connect_timeout", Value::Number(1, 3600)),
    ("default_acl", Value::Choice(&ACLS)),
    ("default_permissions", Value::Flag),
    ("direct_io", Value::Flag),
    ("dirsync", Value::Flag),
    ("enable_content_md5", Value::Flag),
    ("enable_noobj_cache", Value::Flag),
    ("endpoint", Value::Word),
    ("ensure_diskfree", Value::Number(0, 1 << 30)),
    ("entry_timeout", Value::Number(0, 86400)),
    ("exec", Value::Flag),
    ("gid", Value::Number(0, u32::MAX as i64 - 1)),
    ("hard_remove", Value::Flag),
    ("kernel_cache", Value::Flag),
    ("list_object_max_keys", Value::Number(1, 100_000)),
    ("listobjectsv2", Value::Flag),
    ("max_background", Value::Number(1, 1024)),
    ("max_dirty_data", Value::Number(-1, 1 << 30)),
    ("max_read", Value::Number(4096, 1 << 20)),
    ("max_readahead", Value::Number(0, 1 << 30)),
    ("max_stat_cache_size", Value::Number(0, 10_000_000)),
    ("max_write", Value::Number(4096, 1 << 20)),
    ("mp_umask", Value::Mode),
    ("multipart_copy_size", Value::Number(5, 5120)),
    ("multipart_size", Value::Number(5, 5120)),
    ("multipart_threshold", Value::Number(5, 5120)),
    ("multireq_max", Value::Number(1, 1000)),
    ("negative_timeout", Value::Number(0, 86400)),
    ("no_check_certificate", Value::Flag),
    ("noatime", Value::Flag),
    ("nocopyapi", Value::Flag),
    ("nodev", Value::Flag),
    ("nodnscache", Value::Flag),
    ("noexec", Value::Flag),
    ("nomixupload", Value::Flag),
    ("nomultipart", Value::Flag),
    ("nonempty", Value::Flag),
    ("norenameapi", Value::Flag),
    ("nosscache", Value::Flag),
    ("nosuid", Value::Flag),
    ("notsup_compat_dir", Value::Flag),
    ("noua", Value::Flag),
    ("noxmlns", Value::Flag),
    ("parallel_count", Value::Number(1, 256)),
    ("readwrite_timeout", Value::Number(1, 3600)),
    ("requester_pays", Value::Flag),
    ("retries", Value::Number(0, 100)),
    ("ro", Value::Flag),
    ("rw", Value::Flag),
    ("sigv2", Value::Flag),
    ("sigv4", Value::Flag),
    ("singlepart_copy_limit", Value::Number(5, 5120)),
    ("ssl_verify_hostname", Value::Number(0, 2)),
    ("stat_cache_expire", Value::Number(0, i64::MAX)),
    ("stat_cache_interval_expire", Value::Number(0, i64::MAX)),
    ("storage_class", Value::Word),
    ("sync", Value::Flag),
    ("uid", Value::Number(0, u32::MAX as i64 - 1)),
    ("umask", Value::Mode),
    ("use_path_request_style", Value::Flag),
    ("use_rrs", Value::Flag),
    ("use_wtf8", Value::Flag),
    ("use_xattr", Value::Flag),
];

const ACLS: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

/// Options of ossfs that this `s3fs` does not have, and what they become: nothing, when that is how it works anyway.
const OSSFS_ONLY: &[(&str, Value, Translate)] = &[
    ("default_permission", Value::Mode, Translate::Permission),
    ("noxattr", Value::Flag, Translate::Nothing),
    ("sigv1", Value::Flag, Translate::As("sigv2")),
    ("region", Value::Word, Translate::Renamed("endpoint")),
    // How much is told in logs is the plug-in's own business.
    ("dbglevel", Value::Word, Translate::Nothing),
    ("curldbg", Value::Flag, Translate::Nothing),
];

#[derive(Clone, Copy)]
enum Translate {
    Nothing,
    As(&'static str),
    Renamed(&'static str),
    /// Octal permissions of files.
    Permission,
}

/// Takes `-o name[=value][,…] …` apart into options for `s3fs`, each `name[=value]`.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    if text.len() > TEXT_MAX {
        return Err(format!("the option other_opts is longer than {TEXT_MAX} bytes"));
    }
    let mut options = Vec::new();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let list = match word.strip_prefix("-o") {
            Some("") => words.next().ok_or("the option other_opts ends with an -o that nothing follows")?,
            Some(list) => list,
            None => return Err(format!("the option other_opts: {} is not of the form -o name[=value]", Quoted(word))),
        };
        for option in list.split(',').filter(|option| !option.is_empty()) {
            options.extend(translate(option)?);
            if options.len() > OPTIONS_MAX {
                return Err(format!("the option other_opts has more than {OPTIONS_MAX} options"));
            }
        }
    }
    Ok(options)
}

fn translate(option: &str) -> Result<Option<String>, String> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    if let Some((_, kind)) = OPTIONS.iter().find(|(known, _)| *known == name) {
        return checked(name, *kind, value).map(Some);
    }
    let Some((_, kind, translation)) = OSSFS_ONLY.iter().find(|(known, ..)| *known == name) else {
        return Err(format!("the option other_opts: {} is not an option that volumes may use", Quoted(name)));
    };
    let option = checked(name, *kind, value)?;
    Ok(match translation {
        Translate::Nothing => None,
        Translate::As(other) => Some((*other).to_owned()),
        Translate::Renamed(other) => Some(option.replacen(name, other, 1)),
        Translate::Permission => Some(format!("umask={:04o}", mask(value.unwrap_or_default()))),
    })
}

/// What `s3fs` has to mask so that files have these permissions. It masks files and directories alike, so whoever may
/// read may also enter (and execute).
fn mask(permissions: &str) -> u32 {
    let granted = u32::from_str_radix(permissions, 8).unwrap_or(0o777) & 0o777;
    let readable = granted & 0o444;
    0o777 & !(granted | readable >> 2)
}

fn checked(name: &str, kind: Value, value: Option<&str>) -> Result<String, String> {
    let wrong = |wanted: &str| format!("the option other_opts: {name} must be {wanted}");
    let value = value.filter(|value| !value.is_empty());
    let fits = match (kind, value) {
        (Value::Flag, None) => return Ok(name.to_owned()),
        // Some flags are written as `flag=1`; `flag=0` would mean the opposite.
        (Value::Flag, Some(value)) => {
            return if value == "1" { Ok(name.to_owned()) } else { Err(wrong("without a value")) };
        }
        (Value::Number(least, most), value) => {
            let number = value.and_then(|value| value.parse::<i64>().ok());
            let fits = number.is_some_and(|number| (least..=most).contains(&number));
            fits.then_some(()).ok_or_else(|| wrong(&format!("a number from {least} to {most}")))
        }
        (Value::Mode, value) => {
            let is_octal =
                |value: &str| (1..=4).contains(&value.len()) && value.bytes().all(|b| matches!(b, b'0'..=b'7'));
            value.is_some_and(is_octal).then_some(()).ok_or_else(|| wrong("octal permission bits, as 022"))
        }
        (Value::Choice(choices), value) => {
            let known = value.is_some_and(|value| choices.contains(&value));
            known.then_some(()).ok_or_else(|| wrong(&format!("one of {}", choices.join(", "))))
        }
        (Value::Word, value) => {
            let is_word = |value: &str| {
                value.len() <= 256
                    && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+!@".contains(&byte))
            };
            value.is_some_and(is_word).then_some(()).ok_or_else(|| wrong("a word of letters, digits and '-_.:+!@'"))
        }
    };
    fits.map(|()| format!("{name}={}", value.unwrap_or_default()))
}
