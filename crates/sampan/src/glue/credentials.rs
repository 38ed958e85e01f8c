//! Users' client certificates, signed by their cluster's authority.

use async_trait::async_trait;
use sampan_control::{
    kubernetes::{user_certificate, vault::Vault},
    service::credentials::{CertificateView, Credentials, Issued},
    swarm::vault::SwarmVault,
};
use sampan_store::model::{Cluster, Machine, Outcome, Timestamp};

/// Issues from the authorities in the vault.
pub(crate) struct VaultCredentials {
    pub(crate) vault: Vault,
}

#[async_trait]
impl Credentials for VaultCredentials {
    async fn issue(
        &self,
        cluster: &Cluster,
        user_name: &str,
        groups: &[String],
        not_after: Timestamp,
    ) -> Outcome<Issued> {
        let pki = self.vault.pki(&cluster.id).await?;
        let group = groups.first().map(String::as_str);
        let issued = user_certificate(&pki, user_name, group, Timestamp::now(), not_after)?;
        Ok(Issued {
            certificate_pem: issued.certificate,
            key_pem: issued.key,
            ca_pem: pki.cluster_ca.certificate.clone(),
            expires: issued.expires,
        })
    }

    async fn certificates(&self, cluster: &Cluster, machines: &[Machine]) -> Outcome<Vec<CertificateView>> {
        self.vault.certificates(cluster, machines).await
    }
}

/// Hands out the one client certificate that each Swarm cluster has for its users.
pub(crate) struct SwarmCredentials {
    pub(crate) vault: SwarmVault,
}

#[async_trait]
impl Credentials for SwarmCredentials {
    async fn issue(
        &self,
        cluster: &Cluster,
        _user_name: &str,
        _groups: &[String],
        _not_after: Timestamp,
    ) -> Outcome<Issued> {
        let pki = self.vault.pki(&cluster.id).await?;
        Ok(Issued {
            certificate_pem: pki.user.certificate.clone(),
            key_pem: pki.user.key.clone(),
            ca_pem: pki.cluster_ca.certificate.clone(),
            expires: pki.user.expires,
        })
    }
}
