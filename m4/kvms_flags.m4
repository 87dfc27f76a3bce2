# KVMS_IF_CFLAG(FLAG, VARIABLE)
# Append FLAG to VARIABLE if the C compiler takes it without a warning.
AC_DEFUN([KVMS_IF_CFLAG], [
AS_VAR_PUSHDEF([cache], [kvms_cv_cflag_$1])
AC_CACHE_CHECK([whether $CC takes $1], [cache], [
	kvms_saved_cflags=$CFLAGS
	CFLAGS="$CFLAGS -Werror $1"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])], [AS_VAR_SET([cache], [yes])], [AS_VAR_SET([cache], [no])])
	CFLAGS=$kvms_saved_cflags])
AS_VAR_IF([cache], [yes], [AS_VAR_APPEND([$2], [" $1"])])
AS_VAR_POPDEF([cache])
])

# KVMS_PKG(PREFIX, MODULE AND VERSION, DEBIAN PACKAGE)
# PKG_CHECK_MODULES that says what to install when the library is missing.
AC_DEFUN([KVMS_PKG], [
PKG_CHECK_MODULES([$1], [$2], [],
	[AC_MSG_ERROR([$2 not found. On Debian: apt-get install $3 (tools/install-deps installs all that is needed)])])
])
