//! Kubelets' requests for serving certificates, and whom we let have one.
//!
//! The first serving certificate comes with a machine's specification; the kubelet asks for each further one. Nobody
//! upstream approves such requests, because whoever runs the machines must know which name has which address: we do.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject as _};
use sampan_store::model::Outcome;
use serde_json::json;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509CertificationRequest};

use super::access::call;

const SIGNER: &str = "kubernetes.io/kubelet-serving";
const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
/// What a serving certificate may be asked for.
const USAGES: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// For another signer, or decided already.
    NotOurs,
    /// Everything it names is the node's own.
    Approved,
    /// Why not.
    Refused(String),
}

/// Judges a request; `address_of` answers the address of a worker of the cluster by its node name.
pub(crate) fn check(request: &CertificateSigningRequest, address_of: impl Fn(&str) -> Option<Ipv4Addr>) -> Verdict {
    let decided = request
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|conditions| !conditions.is_empty());
    if request.spec.signer_name != SIGNER || decided {
        return Verdict::NotOurs;
    }
    match check_open(request, address_of) {
        Ok(()) => Verdict::Approved,
        Err(why) => Verdict::Refused(why),
    }
}

fn check_open(
    request: &CertificateSigningRequest,
    address_of: impl Fn(&str) -> Option<Ipv4Addr>,
) -> Result<(), String> {
    let spec = &request.spec;
    let user = spec.username.as_deref().unwrap_or_default();
    let node = user.strip_prefix(USER_PREFIX).ok_or_else(|| format!("{user} is no node"))?;
    if !spec.groups.iter().flatten().any(|group| group == GROUP) {
        return Err(format!("{user} is not in the group {GROUP}"));
    }
    let address = address_of(node).ok_or_else(|| format!("node {node} is none of this cluster's machines"))?;
    let usages: Vec<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    if !usages.contains(&"server auth") || usages.iter().any(|usage| !USAGES.contains(usage)) {
        return Err(format!("its usages are {usages:?}"));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(&spec.request.0)
        .map_err(|error| format!("its PEM text cannot be read: {error}"))?;
    let (_, parsed) =
        X509CertificationRequest::from_der(&der).map_err(|error| format!("it cannot be read: {error}"))?;
    check_subject(&parsed, user)?;
    check_names(&parsed, node, address)
}

fn check_subject(parsed: &X509CertificationRequest<'_>, user: &str) -> Result<(), String> {
    let subject = &parsed.certification_request_info.subject;
    let all = |values: Vec<Result<&str, x509_parser::error::X509Error>>| {
        values.into_iter().map(|value| value.unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let names = all(subject.iter_common_name().map(|value| value.as_str()).collect());
    let groups = all(subject.iter_organization().map(|value| value.as_str()).collect());
    if names == [user] && groups == [GROUP] && subject.iter_attributes().count() == 2 {
        return Ok(());
    }
    Err(format!("its subject is {subject}, not {user} of {GROUP}"))
}

fn check_names(parsed: &X509CertificationRequest<'_>, node: &str, address: Ipv4Addr) -> Result<(), String> {
    let mut count = 0;
    for extension in parsed.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            count += 1;
            let (text, own) = match name {
                GeneralName::DNSName(name) => ((*name).to_owned(), *name == node),
                GeneralName::IPAddress(bytes) => match to_address(bytes) {
                    Some(found) => (found.to_string(), found == IpAddr::V4(address)),
                    None => (format!("{bytes:?}"), false),
                },
                other => (other.to_string(), false),
            };
            if !own {
                return Err(format!("it names {text}, which is not {node}'s"));
            }
        }
    }
    if count == 0 { Err("it names no address".to_owned()) } else { Ok(()) }
}

fn to_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Approves it; kube-controller-manager then signs.
///
/// # Errors
/// As the API server says.
pub(crate) async fn approve(client: &Client, request: &CertificateSigningRequest) -> Outcome<()> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({
        "metadata": {"resourceVersion": request.metadata.resource_version},
        "status": {"conditions": [{
            "type": "Approved",
            "status": "True",
            "reason": "MachineKnown",
            "message": "The request names exactly what this machine has.",
        }]},
    });
    let params = PatchParams::default();
    let patch = Patch::Merge(patch);
    call(&format!("certificate signing request {name}"), requests.patch_approval(name, &params, &patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        ByteString,
        api::certificates::v1::{
            CertificateSigningRequestCondition, CertificateSigningRequestSpec, CertificateSigningRequestStatus,
        },
    };
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    const NODE: &str = "cn-beijing.10.200.0.5";

    fn request(common_name: &str, group: &str, names: &[&str], user: &str) -> CertificateSigningRequest {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, common_name);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                signer_name: SIGNER.into(),
                username: Some(user.into()),
                groups: Some(vec![GROUP.into(), "system:authenticated".into()]),
                usages: Some(vec!["digital signature".into(), "server auth".into()]),
                request: ByteString(pem.into_bytes()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn good() -> CertificateSigningRequest {
        let user = format!("{USER_PREFIX}{NODE}");
        request(&user, GROUP, &[NODE, "10.200.0.5"], &user)
    }

    fn known(node: &str) -> Option<Ipv4Addr> {
        (node == NODE).then_some(Ipv4Addr::new(10, 200, 0, 5))
    }

    fn refusal(request: &CertificateSigningRequest) -> String {
        match check(request, known) {
            Verdict::Refused(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_known_node_may_have_its_own_names() {
        assert_eq!(check(&good(), known), Verdict::Approved);
    }

    #[test]
    fn other_signers_and_decided_requests_are_left_alone() {
        let mut other = good();
        other.spec.signer_name = "kubernetes.io/kube-apiserver-client".into();
        assert_eq!(check(&other, known), Verdict::NotOurs);
        let mut decided = good();
        decided.status = Some(CertificateSigningRequestStatus {
            conditions: Some(vec![CertificateSigningRequestCondition::default()]),
            ..Default::default()
        });
        assert_eq!(check(&decided, known), Verdict::NotOurs);
    }

    #[test]
    fn nobody_gets_the_names_of_others() {
        let user = format!("{USER_PREFIX}{NODE}");
        assert!(refusal(&request(&user, GROUP, &[NODE, "10.200.0.6"], &user)).contains("10.200.0.6"));
        assert!(refusal(&request(&user, GROUP, &["kubernetes.default"], &user)).contains("kubernetes.default"));
        assert!(refusal(&request(&user, GROUP, &[], &user)).contains("names no address"));
        let stranger = format!("{USER_PREFIX}other");
        assert!(refusal(&request(&stranger, GROUP, &["other"], &stranger)).contains("none of this cluster's"));
        assert!(refusal(&request(&stranger, GROUP, &[NODE], &user)).contains("its subject"));
        assert!(refusal(&request(&user, "system:masters", &[NODE], &user)).contains("its subject"));
        assert!(refusal(&request(&user, GROUP, &[NODE], "alice")).contains("no node"));
        let mut client = good();
        client.spec.usages = Some(vec!["server auth".into(), "client auth".into()]);
        assert!(refusal(&client).contains("usages"));
        let mut garbage = good();
        garbage.spec.request = ByteString(b"x".to_vec());
        assert!(refusal(&garbage).contains("PEM"));
    }
}
