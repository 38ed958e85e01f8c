//! HTTPS with a local CA: `DIR/tls/ca.pem` is what clients trust; the server's certificate is renewed at start when it is
//! about to expire or does not name the listening address.

use std::{fs, io, net::IpAddr, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const CA_DAYS: u64 = 3650;
const SERVER_DAYS: u64 = 397;

/// Loads or makes the CA in `dir` and issues a certificate for `addresses` and the local names; returns a configuration for
/// a listener. The server's key is new at each start and never written.
pub fn server_config(dir: &Path, addresses: &[IpAddr]) -> io::Result<Arc<rustls::ServerConfig>> {
    let issuer = load_or_make_ca(dir)?;
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, "sampan");
    params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_validity(&mut params, SERVER_DAYS);
    let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn load_or_make_ca(dir: &Path) -> io::Result<Issuer<'static, KeyPair>> {
    let (certificate_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    match (fs::read_to_string(&certificate_path), fs::read_to_string(&key_path)) {
        (Ok(certificate), Ok(key)) => {
            let key = KeyPair::from_pem(&key).map_err(io::Error::other)?;
            Issuer::from_ca_cert_pem(&certificate, key).map_err(io::Error::other)
        }
        _ => make_ca(&certificate_path, &key_path),
    }
}

fn make_ca(certificate_path: &Path, key_path: &Path) -> io::Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Sampan local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_DAYS);
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    write_private(key_path, &key.serialize_pem())?;
    fs::write(certificate_path, certificate.pem())?;
    Issuer::from_ca_cert_pem(&certificate.pem(), key).map_err(io::Error::other)
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    let now = std::time::SystemTime::now();
    // An hour back: clients' clocks differ.
    params.not_before = (now - std::time::Duration::from_secs(3600)).into();
    params.not_after = (now + std::time::Duration::from_secs(days * 86_400)).into();
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
