{{/*
Names, numbers and paths that the injector writes into pods and the admission policies look for.
They are those of operator/inject/src/names.rs; a test compares them.
*/}}
{{- define "chaperone.names" -}}
governed: chaperone.dev/governed
connections: chaperone.dev/connections
purpose: chaperone.dev/purpose
copied: chaperone.dev/copied
copiedPurpose: chaperone.dev/copied-purpose
retry: chaperone.dev/retry
injected: chaperone.dev/injected
container: chaperone
user: 17337
audience: chaperone.dev
spoolVolume: chaperone-spool
spoolPath: /var/lib/chaperone
tokenVolume: chaperone-token
tokenPath: /var/run/secrets/chaperone.dev
apiToken: kubernetes
trustVolume: chaperone-trust
trustPath: /etc/chaperone/trust
operatorEnv: CHAPERONE_OPERATOR
operatorCaEnv: CHAPERONE_OPERATOR_CA
listenEnv: CHAPERONE_LISTEN
{{- end }}

{{/* The one name of Deployment, Service, service account, Lease and webhook configurations. */}}
{{- define "chaperone.operator" -}}chaperone-operator{{- end }}

{{/* Namespace of the evidence; chaperone_crds::audit_store::NAMESPACE. */}}
{{- define "chaperone.audit" -}}chaperone-audit{{- end }}

{{/* Label on a namespace: exec and attach into the agents of a governed namespace are allowed. */}}
{{- define "chaperone.allowExec" -}}chaperone.dev/allow-exec{{- end }}

{{/* The operator as the API server knows it. */}}
{{- define "chaperone.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "chaperone.operator" . }}
{{- end }}

{{/* Where sidecars find the control API. */}}
{{- define "chaperone.url" -}}
https://{{ include "chaperone.operator" . }}.{{ .Release.Namespace }}.svc:8443
{{- end }}

{{- define "chaperone.selector" -}}
app.kubernetes.io/name: chaperone
app.kubernetes.io/component: operator
{{- end }}

{{- define "chaperone.labels" -}}
app.kubernetes.io/name: chaperone
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* An image in full: call with (list $ .Values.image). */}}
{{- define "chaperone.image" -}}
{{- $chart := (index . 0).Chart }}
{{- with index . 1 }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Every image that a sidecar may have, as a JSON and so a CEL list. */}}
{{- define "chaperone.sidecarImages" -}}
{{- prepend .Values.sidecar.acceptedImages (include "chaperone.image" (list . .Values.sidecar.image)) | uniq | toJson }}
{{- end }}

{{/* Namespaces that are never injected and never governed. */}}
{{- define "chaperone.leftOut" -}}
{{ list "kube-system" .Release.Namespace | uniq | toJson }}
{{- end }}
