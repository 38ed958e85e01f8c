#!/bin/sh
# Debian's BusyBox crashes on wget -T. This keeps the time from outside.
limit=
left=$#
while [ "$left" -gt 0 ]; do
	left=$((left - 1))
	case $1 in
	-T | --timeout)
		limit=$2
		left=$((left - 1))
		shift
		;;
	-T*) limit=${1#-T} ;;
	--timeout=*) limit=${1#--timeout=} ;;
	*) set -- "$@" "$1" ;;
	esac
	shift
done
if [ -z "$limit" ]; then
	exec /bin/busybox wget "$@"
fi
/bin/busybox timeout "$limit" /bin/busybox wget "$@"
status=$?
if [ "$status" -eq 143 ]; then
	echo "wget: download timed out" >&2
	exit 1
fi
exit "$status"
