{{/* A node's picture of a static pod is no request for a pod; only a node may make one. */}}
{{- define "chaperone.notMirror" -}}
- name: not-a-static-pod
  expression: >-
    !('system:nodes' in request.userInfo.?groups.orValue([]) &&
    'kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))
{{- end }}

{{- define "chaperone.workloads" -}}
- {apiGroups: [apps], apiVersions: [v1], resources: [deployments, statefulsets, daemonsets], operations: [CREATE, UPDATE], scope: Namespaced}
- {apiGroups: [batch], apiVersions: [v1], resources: [jobs, cronjobs], operations: [CREATE, UPDATE], scope: Namespaced}
{{- end }}
