{{- define "scopegate.name" -}}
{{ .Release.Name }}
{{- end }}

{{- define "scopegate.selector" -}}
app.kubernetes.io/name: scopegate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "scopegate.labels" -}}
{{ include "scopegate.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The pod: deploy/kubernetes/components/pod/pod.yaml has the reasons. */}}
{{- define "scopegate.pod" -}}
metadata:
  labels:
    {{- include "scopegate.selector" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "scopegate.name" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- if eq .Values.store "redis" }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "scopegate.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  containers:
    - name: scopegate
      image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
      imagePullPolicy: IfNotPresent
      args: [serve, --config, /etc/scopegate/config/gateway.yaml]
      env:
        - { name: SCOPEGATE_CONFIG, value: /etc/scopegate/config/gateway.yaml }
      workingDir: /var/lib/scopegate
      ports:
        - { name: http, containerPort: 8080, protocol: TCP }
        - { name: metrics, containerPort: 9091, protocol: TCP }
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      startupProbe:
        httpGet: { path: /readyz, port: metrics }
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 30
      livenessProbe:
        httpGet: { path: /healthz, port: metrics }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: { path: /readyz, port: metrics }
        periodSeconds: 5
        timeoutSeconds: 2
        failureThreshold: {{ if eq .Values.store "redis" }}60{{ else }}3{{ end }}
      volumeMounts:
        - { name: config, mountPath: /etc/scopegate/config, readOnly: true }
        - { name: policies, mountPath: /etc/scopegate/policies, readOnly: true }
        - { name: clients, mountPath: /etc/scopegate/clients, readOnly: true }
        - { name: secrets, mountPath: /etc/scopegate/secrets, readOnly: true }
        - { name: state, mountPath: /var/lib/scopegate }
        - { name: tmp, mountPath: /tmp }
  volumes:
    {{- range list "config" "policies" "clients" }}
    - { name: {{ . }}, configMap: { name: {{ include "scopegate.name" $ }}-{{ . }}, defaultMode: 0440 } }
    {{- end }}
    - { name: secrets, secret: { secretName: {{ .Values.secret }}, defaultMode: 0440, optional: true } }
    - { name: tmp, emptyDir: { sizeLimit: 64Mi } }
    {{- if eq .Values.store "redis" }}
    - { name: state, emptyDir: { sizeLimit: 64Mi } }
    {{- end }}
{{- end }}
