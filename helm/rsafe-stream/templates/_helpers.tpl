{{- define "rsafe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "rsafe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "rsafe.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "rsafe.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "rsafe.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rsafe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rsafe.labels" -}}
{{ include "rsafe.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "rsafe.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- define "rsafe.policiesConfigMap" -}}
{{- if .Values.policies.existingConfigMap -}}
{{- .Values.policies.existingConfigMap -}}
{{- else if .Values.policies.files -}}
{{- include "rsafe.fullname" . }}-policies
{{- end -}}
{{- end -}}

{{/* A number as Helm knows it is a float: 1000000 would be printed as 1e+06, which is no integer to the worker. */}}
{{- define "rsafe.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* Settings as environment variables, sorted by name. Used by the worker and by the topics job. */}}
{{- define "rsafe.settingsEnv" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if include "rsafe.policiesConfigMap" . -}}
{{- if hasKey (default dict $settings.policies) "path" -}}
{{- fail "settings.policies.path and policies.files or policies.existingConfigMap exclude each other: the chart sets the path of the mounted folder" -}}
{{- end -}}
{{- $_ := set $settings "policies" (merge (dict "path" "/etc/rsafe/policies") (default dict $settings.policies)) -}}
{{- end -}}
{{- if .Values.checkpoint.existingClaim -}}
{{- if hasKey (default dict $settings.guard) "checkpoint" -}}
{{- fail "settings.guard.checkpoint and checkpoint.existingClaim exclude each other: the chart sets the path of the mounted folder" -}}
{{- end -}}
{{- $_ := set $settings "guard" (merge (dict "checkpoint" (printf "/checkpoints/%s" .Values.checkpoint.path | trimSuffix "/")) (default dict $settings.guard)) -}}
{{- end -}}
{{- range $link, $tls := .Values.tls -}}
{{- if $tls.existingSecret -}}
{{- $named := default dict (get $settings $link) -}}
{{- $prefix := eq $link "guard" | ternary "endpoint_" "" -}}
{{- range $file, $key := dict "ca" $tls.ca "certificate" $tls.certificate "key" $tls.key -}}
{{- if $key -}}
{{- $name := printf "%sssl_%s_location" $prefix $file -}}
{{- if hasKey $named $name -}}
{{- fail (printf "settings.%s.%s and tls.%s.existingSecret exclude each other: the chart sets the path of the mounted file" $link $name $link) -}}
{{- end -}}
{{- $_ := set $named $name (printf "/etc/rsafe/tls/%s/%s.pem" $link $file) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $settings $link $named -}}
{{- end -}}
{{- end -}}
{{- range $group := keys $settings | sortAlpha }}
{{- $names := get $settings $group | default dict }}
{{- range $name := keys $names | sortAlpha }}
{{- $value := get $names $name }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ printf "RSAFE_%s__%s" $group $name | upper }}
  value: {{ include "rsafe.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.secrets.redisUrl }}{{ if .existingSecret }}
- name: RSAFE_REDIS__URL_FILE
  value: /etc/rsafe/secrets/redis-url
{{- end }}{{ end }}
{{- with .Values.secrets.redisSentinelPassword }}{{ if .existingSecret }}
- name: RSAFE_REDIS__SENTINEL_PASSWORD_FILE
  value: /etc/rsafe/secrets/redis-sentinel-password
{{- end }}{{ end }}
{{- with .Values.secrets.kafkaSaslPassword }}{{ if .existingSecret }}
- name: RSAFE_KAFKA__SASL_PASSWORD_FILE
  value: /etc/rsafe/secrets/sasl-password
{{- end }}{{ end }}
{{- with .Values.secrets.redisPassword }}{{ if .existingSecret }}
- name: RSAFE_REDIS__PASSWORD_FILE
  value: /etc/rsafe/secrets/redis-password
{{- end }}{{ end }}
{{- with .Values.secrets.kafkaSslKeyPassword }}{{ if .existingSecret }}
- name: RSAFE_KAFKA__SSL_KEY_PASSWORD_FILE
  value: /etc/rsafe/secrets/kafka-key-password
{{- end }}{{ end }}
{{- with .Values.secrets.redisSslKeyPassword }}{{ if .existingSecret }}
- name: RSAFE_REDIS__SSL_KEY_PASSWORD_FILE
  value: /etc/rsafe/secrets/redis-key-password
{{- end }}{{ end }}
{{- with .Values.secrets.guardEndpointApiKey }}{{ if .existingSecret }}
- name: RSAFE_GUARD__ENDPOINT_API_KEY_FILE
  value: /etc/rsafe/secrets/guard-api-key
{{- end }}{{ end }}
{{- with .Values.secrets.guardEndpointSslKeyPassword }}{{ if .existingSecret }}
- name: RSAFE_GUARD__ENDPOINT_SSL_KEY_PASSWORD_FILE
  value: /etc/rsafe/secrets/guard-key-password
{{- end }}{{ end }}
{{- with .Values.secrets.contentKey }}{{ if .existingSecret }}
- name: RSAFE_SECRETS__CONTENT_KEY_FILE
  value: /etc/rsafe/secrets/content-key
{{- end }}{{ end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "RSAFE_" .name }}
{{- fail (printf "extraEnv: %s: use settings or secrets, which are checked" .name) }}
{{- end }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{- define "rsafe.hasSecrets" -}}
{{- range $name, $secret := .Values.secrets -}}
{{- if $secret.existingSecret }}yes{{ end -}}
{{- end -}}
{{- end -}}

{{/* One volume with a file per secret, whatever Secret it comes from. */}}
{{- define "rsafe.secretsVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- with .Values.secrets.redisUrl }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: redis-url}]
      {{- end }}{{ end }}
      {{- with .Values.secrets.redisSentinelPassword }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: redis-sentinel-password}]
      {{- end }}{{ end }}
      {{- with .Values.secrets.kafkaSaslPassword }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: sasl-password}]
      {{- end }}{{ end }}
      {{- with .Values.secrets.redisPassword }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: redis-password}]
      {{- end }}{{ end }}
      {{- with .Values.secrets.kafkaSslKeyPassword }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: kafka-key-password}]
      {{- end }}{{ end }}
      {{- with .Values.secrets.redisSslKeyPassword }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: redis-key-password}]
      {{- end }}{{ end }}
      {{- with .Values.secrets.guardEndpointApiKey }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: guard-api-key}]
      {{- end }}{{ end }}
      {{- with .Values.secrets.guardEndpointSslKeyPassword }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: guard-key-password}]
      {{- end }}{{ end }}
      {{- with .Values.secrets.contentKey }}{{ if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key | quote }}, path: content-key}]
      {{- end }}{{ end }}
{{- end -}}

{{/* Certificates of the links, a folder each. */}}
{{- define "rsafe.tlsVolumes" -}}
{{- range $link, $tls := .Values.tls }}
{{- if $tls.existingSecret }}
- name: tls-{{ $link }}
  secret:
    secretName: {{ $tls.existingSecret }}
    defaultMode: 0440
    items:
      {{- range $file, $key := dict "ca" $tls.ca "certificate" $tls.certificate "key" $tls.key }}
      {{- if $key }}
      - {key: {{ $key | quote }}, path: {{ $file }}.pem}
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "rsafe.tlsMounts" -}}
{{- range $link, $tls := .Values.tls }}
{{- if $tls.existingSecret }}
- {name: tls-{{ $link }}, mountPath: /etc/rsafe/tls/{{ $link }}, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "rsafe.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "rsafe.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
