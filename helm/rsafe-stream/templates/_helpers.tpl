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

{{/* Name of an image. Of `root` and `image`, in which what is empty is as in .Values.image. */}}
{{- define "rsafe.image" -}}
{{- $base := .root.Values.image -}}
{{- $own := default dict .image -}}
{{- $repository := default $base.repository $own.repository -}}
{{- $named := or $own.repository $own.tag $own.digest -}}
{{- $digest := $named | empty | ternary $base.digest $own.digest -}}
{{- $tag := default .root.Chart.AppVersion (default $base.tag $own.tag) -}}
{{- with .root.Values.global.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- if $digest -}}
{{- printf "%s@%s" $repository $digest -}}
{{- else -}}
{{- printf "%s:%s" $repository $tag -}}
{{- end -}}
{{- end -}}

{{/* "yes" where the resources ask for a GPU of whatever maker. */}}
{{- define "rsafe.asksForGpu" -}}
{{- range $part := list "limits" "requests" -}}
{{- range $name, $_ := dig $part dict $ -}}
{{- if or (hasPrefix "nvidia.com/" $name) (hasPrefix "amd.com/gpu" $name) (hasPrefix "gpu." $name) -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* maxSurge and maxUnavailable. Of `rollout` and `resources`. */}}
{{- define "rsafe.rollout" -}}
{{- $scarce := include "rsafe.asksForGpu" .resources -}}
{{- $surge := .rollout.maxSurge -}}
{{- if eq (toString $surge) "" }}{{ $surge = $scarce | empty | ternary 1 0 }}{{ end -}}
{{- $away := .rollout.maxUnavailable -}}
{{- if eq (toString $away) "" }}{{ $away = $scarce | empty | ternary 0 1 }}{{ end -}}
maxSurge: {{ include "rsafe.count" $surge }}
maxUnavailable: {{ include "rsafe.count" $away }}
{{- end -}}

{{/* A number as it is, a percentage in quotes. */}}
{{- define "rsafe.count" -}}
{{- if hasSuffix "%" (toString .) }}{{ toString . | quote }}{{ else }}{{ int . }}{{ end -}}
{{- end -}}

{{/* How many pods a budget means by a number or a percentage, which Kubernetes rounds up. Of `count` and `of`. */}}
{{- define "rsafe.pods" -}}
{{- $count := toString .count -}}
{{- if hasSuffix "%" $count }}{{ ceil (divf (mulf (trimSuffix "%" $count | float64) .of) 100) | int }}{{ else }}{{ int .count }}{{ end -}}
{{- end -}}

{{/* Seconds from the sign to end until the last commit: what a pod has to be given. */}}
{{- define "rsafe.grace" -}}
{{- $drain := ceil (dig "stream" "drain_s" 20 .Values.settings) -}}
{{- default (add .Values.preStopSeconds $drain .Values.shutdownMarginSeconds) .Values.terminationGracePeriodSeconds -}}
{{- end -}}

{{- define "rsafe.serviceAccountName" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}{{ else if .Values.serviceAccount.create }}{{ include "rsafe.fullname" . }}{{ end -}}
{{- end -}}

{{- define "rsafe.engine" -}}
{{- .Values.guard.enabled | ternary "remote" (dig "guard" "engine" "vllm" .Values.settings) -}}
{{- end -}}

{{/* Six letters for what the guard servers answer with: their image, checkpoint, settings, options and key. While an upgrade
replaces them, old and new ones stand side by side, and a worker that starts refuses a server that is not as it expects. */}}
{{- define "rsafe.generation" -}}
{{- $image := include "rsafe.image" (dict "root" . "image" .Values.guard.image) -}}
{{- list $image .Values.checkpoint (default dict .Values.settings.guard) .Values.guard.args .Values.secrets.guardEndpointApiKey | toJson | sha256sum | trunc 6 -}}
{{- end -}}

{{/* The name behind which the guard servers of this generation are found; of at most 63 characters. */}}
{{- define "rsafe.guardService" -}}
{{ include "rsafe.fullname" . }}-guard-{{ include "rsafe.generation" . }}
{{- end -}}

{{/* Size of the worker's shared memory; empty: the runtime's own, which is 64 MiB. One vLLM over several GPUs takes more. */}}
{{- define "rsafe.sharedMemory" -}}
{{- $guard := default dict .Values.settings.guard -}}
{{- $several := or (gt (int (default 1 $guard.tensor_parallel_size)) 1) (gt (int (default 1 $guard.data_parallel_size)) 1) -}}
{{- default (and $several (eq (include "rsafe.engine" .) "vllm") | ternary "2Gi" "") .Values.sharedMemory -}}
{{- end -}}

{{/* "yes" where the checkpoint is mounted rather than in the image of the worker. */}}
{{- define "rsafe.mountedCheckpoint" -}}
{{- if or .Values.checkpoint.existingClaim .Values.checkpoint.image.reference }}yes{{ end -}}
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

{{/* Who needs what: the groups of settings and the Secrets of each component; all of them for the worker and the test. Settings
of kafka are checked against those of stream, so whoever has the one has the other. */}}
{{- define "rsafe.needs" -}}
worker: {links: [kafka, redis, guard], secrets: [redisUrl, redisSentinelPassword, redisPassword, redisSslKeyPassword, kafkaSaslPassword, kafkaSslKeyPassword, guardEndpointApiKey, guardEndpointSslKeyPassword, contentKey]}
test: {links: [kafka, redis, guard], secrets: [redisUrl, redisSentinelPassword, redisPassword, redisSslKeyPassword, kafkaSaslPassword, kafkaSslKeyPassword, guardEndpointApiKey, guardEndpointSslKeyPassword, contentKey]}
conduct: {links: [kafka], secrets: [kafkaSaslPassword, kafkaSslKeyPassword], groups: [conduct, health, kafka, log, policies, secrets, stream]}
topics: {links: [kafka], secrets: [kafkaSaslPassword, kafkaSslKeyPassword], groups: [conduct, kafka, log, secrets, stream]}
trainer: {links: [kafka], secrets: [kafkaSaslPassword, kafkaSslKeyPassword], groups: [kafka, log, secrets, stream]}
guard: {links: [], secrets: [guardEndpointApiKey], groups: [guard, log]}
{{- end -}}

{{/* The variable and the file of each Secret. */}}
{{- define "rsafe.secretFiles" -}}
redisUrl: {variable: RSAFE_REDIS__URL_FILE, file: redis-url}
redisSentinelPassword: {variable: RSAFE_REDIS__SENTINEL_PASSWORD_FILE, file: redis-sentinel-password}
redisPassword: {variable: RSAFE_REDIS__PASSWORD_FILE, file: redis-password}
redisSslKeyPassword: {variable: RSAFE_REDIS__SSL_KEY_PASSWORD_FILE, file: redis-key-password}
kafkaSaslPassword: {variable: RSAFE_KAFKA__SASL_PASSWORD_FILE, file: sasl-password}
kafkaSslKeyPassword: {variable: RSAFE_KAFKA__SSL_KEY_PASSWORD_FILE, file: kafka-key-password}
guardEndpointApiKey: {variable: RSAFE_GUARD__ENDPOINT_API_KEY_FILE, file: guard-api-key}
guardEndpointSslKeyPassword: {variable: RSAFE_GUARD__ENDPOINT_SSL_KEY_PASSWORD_FILE, file: guard-key-password}
contentKey: {variable: RSAFE_SECRETS__CONTENT_KEY_FILE, file: content-key}
{{- end -}}

{{/* Environment of a component, sorted by name: its settings, and where its Secrets are mounted. Of `root`, `component` and
`extraEnv`. What contradicts itself is refused in _refusals.tpl. */}}
{{- define "rsafe.env" -}}
{{- $values := .root.Values -}}
{{- $needs := get (include "rsafe.needs" . | fromYaml) .component -}}
{{- $settings := deepCopy $values.settings -}}
{{- if include "rsafe.policiesConfigMap" .root -}}
{{- $_ := set $settings "policies" (merge (dict "path" "/etc/rsafe/policies") (default dict $settings.policies)) -}}
{{- end -}}
{{- if eq .component "conduct" -}}
{{- $_ := set $settings "conduct" (merge (dict "state_folder" "/var/lib/rsafe/conduct") (default dict $settings.conduct)) -}}
{{- end -}}
{{- $guard := default dict $settings.guard -}}
{{- if include "rsafe.mountedCheckpoint" .root -}}
{{- $_ := set $guard "checkpoint" (printf "/checkpoints/%s" $values.checkpoint.path | trimSuffix "/") -}}
{{- end -}}
{{- with $values.checkpoint.digest -}}{{- $_ := set $guard "checkpoint_digest" . -}}{{- end -}}
{{- /* The engine gives up by itself, and says why, before the kubelet restarts the worker. */}}
{{- if and (has .component (list "worker" "test")) (not $guard.start_timeout_s) -}}
{{- $_ := set $guard "start_timeout_s" (max 5 (sub (int $values.startup.maxSeconds) 30)) -}}
{{- end -}}
{{- if eq .component "guard" -}}
{{- $guard = omit $guard "engine" "endpoints" "endpoint_addresses" -}}
{{- else if $values.guard.enabled -}}
{{- $_ := set $guard "engine" "remote" -}}
{{- $_ := set $guard "endpoints" (printf "http://%s:%d" (include "rsafe.guardService" .root) (int $values.guard.port)) -}}
{{- if not (hasKey $guard "endpoint_addresses") -}}{{- $_ := set $guard "endpoint_addresses" "all" -}}{{- end -}}
{{- end -}}
{{- $_ := set $settings "guard" $guard -}}
{{- range $link, $tls := $values.tls -}}
{{- if and $tls.existingSecret (has $link $needs.links) -}}
{{- $named := default dict (get $settings $link) -}}
{{- range $file, $key := dict "ca" $tls.ca "certificate" $tls.certificate "key" $tls.key -}}
{{- if $key -}}
{{- $_ := set $named (printf "%sssl_%s_location" (eq $link "guard" | ternary "endpoint_" "") $file) (printf "/etc/rsafe/tls/%s/%s.pem" $link $file) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $settings $link $named -}}
{{- end -}}
{{- end -}}
{{- range $group := keys $settings | sortAlpha }}
{{- if or (not $needs.groups) (has $group $needs.groups) }}
{{- $names := get $settings $group | default dict }}
{{- range $name := keys $names | sortAlpha }}
{{- $value := get $names $name }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ printf "RSAFE_%s__%s" $group $name | upper }}
  value: {{ include "rsafe.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $files := include "rsafe.secretFiles" . | fromYaml }}
{{- range $needs.secrets }}
{{- if (get $values.secrets .).existingSecret }}
{{- $one := get $files . }}
- name: {{ $one.variable }}
  value: /etc/rsafe/secrets/{{ $one.file }}
{{- end }}
{{- end }}
{{- range concat $values.extraEnv (default list .extraEnv) }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/* "yes" where a component has Secrets. Of `root` and `component`. */}}
{{- define "rsafe.hasSecrets" -}}
{{- $values := .root.Values -}}
{{- range (get (include "rsafe.needs" . | fromYaml) .component).secrets -}}
{{- if (get $values.secrets .).existingSecret }}yes{{ end -}}
{{- end -}}
{{- end -}}

{{/* Mounts of a component: /tmp, Secrets, certificates, policies and checkpoint, as it needs them. Of `root`, `component`. */}}
{{- define "rsafe.mounts" -}}
{{- $values := .root.Values -}}
{{- $links := (get (include "rsafe.needs" . | fromYaml) .component).links -}}
- {name: tmp, mountPath: /tmp}
{{- if and (has .component (list "worker" "conduct" "test")) (include "rsafe.policiesConfigMap" .root) }}
- {name: policies, mountPath: /etc/rsafe/policies, readOnly: true}
{{- end }}
{{- if include "rsafe.hasSecrets" . }}
- {name: secrets, mountPath: /etc/rsafe/secrets, readOnly: true}
{{- end }}
{{- range $link, $tls := $values.tls }}
{{- if and $tls.existingSecret (has $link $links) }}
- {name: tls-{{ $link }}, mountPath: /etc/rsafe/tls/{{ $link }}, readOnly: true}
{{- end }}
{{- end }}
{{- if and (has .component (list "worker" "test" "guard")) (include "rsafe.mountedCheckpoint" .root) }}
- {name: checkpoints, mountPath: /checkpoints, readOnly: true}
{{- end }}
{{- with $values.extraVolumeMounts }}{{ toYaml . | nindent 0 }}{{ end }}
{{- end -}}

{{/* The volumes of these mounts. Of `root`, `component` and `tmpSizeLimit`. */}}
{{- define "rsafe.volumes" -}}
{{- $values := .root.Values -}}
{{- $needs := get (include "rsafe.needs" . | fromYaml) .component -}}
- name: tmp
  emptyDir: {{ if .tmpSizeLimit }}{sizeLimit: {{ .tmpSizeLimit | quote }}}{{ else }}{}{{ end }}
{{- if has .component (list "worker" "conduct" "test") }}
{{- with include "rsafe.policiesConfigMap" .root }}
- name: policies
  configMap:
    name: {{ . }}
{{- end }}
{{- end }}
{{- if include "rsafe.hasSecrets" . }}
{{- $files := include "rsafe.secretFiles" . | fromYaml }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $needs.secrets }}
      {{- $secret := get $values.secrets . }}
      {{- if $secret.existingSecret }}
      - secret:
          name: {{ $secret.existingSecret }}
          items: [{key: {{ $secret.key | quote }}, path: {{ (get $files .).file }}}]
      {{- end }}
      {{- end }}
{{- end }}
{{- range $link, $tls := $values.tls }}
{{- if and $tls.existingSecret (has $link $needs.links) }}
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
{{- if has .component (list "worker" "test" "guard") }}
{{- with $values.checkpoint.existingClaim }}
- name: checkpoints
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- with $values.checkpoint.image }}
{{- if .reference }}
- name: checkpoints
  image:
    reference: {{ printf "%s%s" (empty $values.global.imageRegistry | ternary "" (printf "%s/" (trimSuffix "/" $values.global.imageRegistry))) .reference | quote }}
    pullPolicy: {{ .pullPolicy }}
{{- end }}
{{- end }}
{{- end }}
{{- with $values.extraVolumes }}{{ toYaml . | nindent 0 }}{{ end }}
{{- end -}}

{{/* What every pod has. Of `root`, `component` and `place`, the values that say where and how it is scheduled. */}}
{{- define "rsafe.podCommon" -}}
automountServiceAccountToken: false
# A Service called rsafe-… would otherwise put variables such as RSAFE_STREAM_PORT into the environment, and unknown names
# with that prefix are refused.
enableServiceLinks: false
securityContext: {{- include "rsafe.podSecurityContext" .root | nindent 2 }}
{{- with include "rsafe.serviceAccountName" .root }}
{{- /* Hooks that run first find no account of this release. */}}
{{- if not (and (eq $.component "topics") $.root.Values.serviceAccount.create) }}
serviceAccountName: {{ . }}
{{- end }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .place.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if has .component (list "worker" "conduct" "guard") }}
{{- $labels := merge (dict "app.kubernetes.io/component" .component) (include "rsafe.selectorLabels" .root | fromYaml) }}
{{- $overNodes := list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" (dict "matchLabels" $labels)) }}
topologySpreadConstraints: {{- toYaml (default $overNodes .place.topologySpreadConstraints) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Waits before the program is told to end. The image has a sleep; the kubelet's own is not in every Kubernetes. */}}
{{- define "rsafe.preStop" -}}
{{- if . }}
lifecycle:
  preStop:
    exec: {command: [sleep, {{ . | toString | quote }}]}
{{- end -}}
{{- end -}}

{{/* Numbers of ports in comma-separated addresses, with a scheme and a path or without, as a JSON list. */}}
{{- define "rsafe.portsOf" -}}
{{- $ports := list -}}
{{- range splitList "," . -}}
{{- $address := trim . | lower -}}
{{- $host := regexReplaceAll "^[a-z]+://" $address "" | splitList "/" | first -}}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" -}}
{{- with default (hasPrefix "https://" $address | ternary "443" (hasPrefix "http://" $address | ternary "80" "")) $port -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- end -}}
{{- uniq $ports | toJson -}}
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
