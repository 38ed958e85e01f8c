//! Server-side apply of built-in manifests, without asking the API server first what it knows: the kinds are ours.

use std::time::Duration;

use http::{Method, Request, header};
use kube::Client;
use sampan_store::model::{Fault, FaultKind, Outcome};
use serde_json::Value;

use super::access::call;

/// Owner of the fields that we apply.
const FIELD_MANAGER: &str = "sampan";
/// The namespace of the system's objects is made by the API server itself, a moment after it answers.
const NAMESPACE_RETRIES: u32 = 40;
const NAMESPACE_PAUSE: Duration = Duration::from_millis(50);

/// Applies all objects. Those that nothing waits for go side by side, the workloads last.
///
/// # Errors
/// Of the first object that cannot be applied.
pub(crate) async fn apply(client: &Client, objects: &[Value]) -> Outcome<()> {
    let (workloads, others): (Vec<_>, Vec<_>) = objects.iter().partition(|object| object["kind"] == "Deployment");
    for group in [others, workloads] {
        futures::future::try_join_all(group.into_iter().map(|object| apply_one(client, object))).await?;
    }
    Ok(())
}

async fn apply_one(client: &Client, object: &Value) -> Outcome<()> {
    let path = path(object)?;
    let body = serde_json::to_vec(object)
        .map_err(|error| Fault::internal(format!("a built-in manifest cannot be written: {error}")))?;
    for _ in 0..NAMESPACE_RETRIES {
        match send(client, &path, &body).await {
            Err(fault) if matches!(fault.kind, FaultKind::NotFound(_)) => tokio::time::sleep(NAMESPACE_PAUSE).await,
            answer => return answer,
        }
    }
    send(client, &path, &body).await
}

async fn send(client: &Client, path: &str, body: &[u8]) -> Outcome<()> {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager={FIELD_MANAGER}&force=true"))
        // JSON is YAML.
        .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
        .header(header::ACCEPT, "application/json")
        .body(body.to_vec())
        .map_err(|error| Fault::internal(format!("a request cannot be built: {error}")))?;
    call(path, client.request::<Value>(request)).await.map(drop)
}

/// The object's path in the API.
fn path(object: &Value) -> Outcome<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let known = || -> Option<String> {
        let (version, kind) = (text(&object["apiVersion"])?, text(&object["kind"])?);
        let name = text(&object["metadata"]["name"])?;
        let (plural, namespaced) = resource(&kind)?;
        let root = if version.contains('/') { "apis" } else { "api" };
        Some(if namespaced {
            let namespace = text(&object["metadata"]["namespace"])?;
            format!("/{root}/{version}/namespaces/{namespace}/{plural}/{name}")
        } else {
            format!("/{root}/{version}/{plural}/{name}")
        })
    };
    known().ok_or_else(|| Fault::internal(format!("the built-in manifest of {} has no path", object["kind"])))
}

/// Plural and whether it lives in a namespace, of the kinds that the manifests use.
fn resource(kind: &str) -> Option<(&'static str, bool)> {
    Some(match kind {
        "APIService" => ("apiservices", false),
        "ClusterRole" => ("clusterroles", false),
        "ClusterRoleBinding" => ("clusterrolebindings", false),
        "ConfigMap" => ("configmaps", true),
        "Deployment" => ("deployments", true),
        "RoleBinding" => ("rolebindings", true),
        "Secret" => ("secrets", true),
        "Service" => ("services", true),
        "ServiceAccount" => ("serviceaccounts", true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kubernetes::{
            addons::base_manifests,
            tests::{sample_cluster, sample_images, sample_pki},
        },
        ports::BasePart,
    };

    #[test]
    fn every_built_in_object_has_a_path() {
        let (cluster, pki, images) = (sample_cluster(), sample_pki(), sample_images());
        let part = |part| base_manifests(part, &cluster, &pki, &images, &[], &[]).unwrap();
        let objects = [BasePart::Essentials, BasePart::Extras].map(part).concat();
        let paths: Vec<String> = objects.iter().map(|object| path(object).unwrap()).collect();
        assert!(paths.contains(&"/apis/apps/v1/namespaces/kube-system/deployments/coredns".to_owned()));
        assert!(paths.contains(&"/api/v1/namespaces/kube-system/services/kube-dns".to_owned()));
        assert!(paths.contains(&"/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io".to_owned()));
    }
}
