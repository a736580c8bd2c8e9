/* weak.h - the symbols that live in the flux-shell program
 *
 * Python loads the same shared object, in a process without that program: the
 * symbols are undefined there, and nothing that uses them is called.
 */
#ifndef FLUX_TREE_WEAK_H
#define FLUX_TREE_WEAK_H

#define FLUX_SHELL_PLUGIN_NAME "tree-bcast"

#include <flux/core.h>
#include <flux/shell.h>

#pragma weak flux_plugin_get_shell
#pragma weak flux_shell_err
#pragma weak flux_shell_fatal
#pragma weak flux_shell_get_environ
#pragma weak flux_shell_get_flux
#pragma weak flux_shell_getenv
#pragma weak flux_shell_getopt_unpack
#pragma weak flux_shell_info_unpack
#pragma weak flux_shell_log
#pragma weak flux_shell_mustache_render
#pragma weak flux_shell_raise
#pragma weak flux_shell_rank_info_unpack
#pragma weak flux_shell_rpc_pack
#pragma weak flux_shell_service_register

#endif
