{{/* The binding that puts a policy of the same name into effect everywhere: call with (list $ name). */}}
{{- define "chaperone.binding" -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ index . 1 }}
  labels:
    {{- include "chaperone.labels" (index . 0) | nindent 4 }}
spec:
  policyName: {{ index . 1 }}
  validationActions: [Deny]
{{- end }}

{{/*
CEL: whether a pod has a token of our audience, and so a sidecar, or an imitation of one. A pod's
volumes never change, so this cannot be taken off afterwards. Call with "object" or "oldObject".
*/}}
{{- define "chaperone.hasToken" -}}
{{ . }}.spec.?volumes.orValue([]).exists(v, v.?projected.sources.orValue([]).exists(s, s.?serviceAccountToken.audience.orValue('') == 'chaperone.dev'))
{{- end }}

{{/* CEL: whether a map of annotations has one of ours. Call with "object" or "oldObject". */}}
{{- define "chaperone.ourAnnotations" -}}
{{ . }}.metadata.?annotations.orValue({}).exists(k, k.startsWith('chaperone.dev/'))
{{- end }}

{{/* CEL: controllers of the cluster itself, which delete what is left of a namespace or an owner. */}}
{{- define "chaperone.isController" -}}
'system:serviceaccounts:kube-system' in request.userInfo.?groups.orValue([])
{{- end }}

{{/*
CEL: whether labels ask for Pod Security restricted. Its versions before v1.25 know neither all
capabilities to drop nor that a pod with another os is checked less.
*/}}
{{- define "chaperone.podSecurityHolds" -}}
{{ . }}[?'pod-security.kubernetes.io/enforce'].orValue('') == 'restricted' && {{ . }}[?'pod-security.kubernetes.io/enforce-version'].orValue('latest').matches('^(latest|v1[.](2[5-9]|[3-9][0-9]))$')
{{- end }}
